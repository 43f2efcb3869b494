// What --lens may say, and the names that lenses get in the output.
#include <string>
#include <vector>

#include "depthlens/lens/lens.hpp"
#include "support/check_error.hpp"

using namespace depthlens;
using lens::LensRequest;
using lens::parse_lens_request;
using test::check_error;
using util::ErrorCode;

namespace {

void check_parsed(const std::string& text, const std::string& name, const std::string& type,
                  const std::string& path) {
  INFO(text);
  const LensRequest request = parse_lens_request(text);
  CHECK(request.name == name);
  CHECK(request.type == type);
  CHECK(request.path == path);
}

std::vector<std::string> names_of(const std::vector<std::string>& texts) {
  std::vector<LensRequest> requests;
  for (const std::string& text : texts) requests.push_back(parse_lens_request(text));
  std::vector<std::string> names;
  for (const LensRequest& request : lens::with_names(requests)) names.push_back(request.name);
  return names;
}

}  // namespace

TEST_CASE("lens request: type, path and name") {
  check_parsed("logit", "", "logit", "");
  check_parsed("tuned:a/b.pt", "", "tuned", "a/b.pt");
  check_parsed("jacobian:x.safetensors", "", "jacobian", "x.safetensors");
  check_parsed("mine=logit", "mine", "logit", "");
  check_parsed("my-lens_2.0=tuned:p", "my-lens_2.0", "tuned", "p");
}

TEST_CASE("lens request: a path may hold ':' and '='") {
  check_parsed("tuned:runs/lr=0.1:best", "", "tuned", "runs/lr=0.1:best");
  check_parsed("a=tuned:lr=0.1", "a", "tuned", "lr=0.1");
}

TEST_CASE("lens request: everything else is wrong usage") {
  for (const char* text : {"", "logits", "Logit", "logit:x", "logit:", "tuned", "tuned:", "jacobian",
                           "a=", "=", "a=b=logit", "tuned=x", "a=nothing:x", ":x"}) {
    INFO(text);
    check_error(ErrorCode::kUsage, {"--lens"}, [&] { parse_lens_request(text); });
  }
}

TEST_CASE("lens request: names that would need quoting are refused") {
  for (const char* text :
       {"=logit", "a b=logit", "a/b=logit", "a,b=logit", "\xff=logit", "a\n=logit", "\u00e9=logit"}) {
    INFO(text);
    check_error(ErrorCode::kUsage, {"unusable lens name", "letters, digits"},
                [&] { parse_lens_request(text); });
  }
}

TEST_CASE("lens names: the type, then type-2, type-3; a given name stays") {
  CHECK(names_of({"logit", "tuned:a", "jacobian:b"}) ==
        std::vector<std::string>{"logit", "tuned", "jacobian"});
  CHECK(names_of({"tuned:a", "tuned:b", "logit", "tuned:c"}) ==
        std::vector<std::string>{"tuned", "tuned-2", "logit", "tuned-3"});
  CHECK(names_of({"mine=tuned:a", "tuned:b"}) == std::vector<std::string>{"mine", "tuned"});
  CHECK(names_of({}).empty());
}

TEST_CASE("lens names: a name twice is wrong usage, whoever gave it") {
  check_error(ErrorCode::kUsage, {"two lenses are called 'a'"}, [] { names_of({"a=logit", "a=tuned:x"}); });
  check_error(ErrorCode::kUsage, {"two lenses are called 'tuned'"}, [] {
    names_of({"tuned:x", "tuned=logit"});
  });
  check_error(ErrorCode::kUsage, {"two lenses are called 'tuned-2'"}, [] {
    names_of({"tuned-2=logit", "tuned:x", "tuned:y"});
  });
}
