// What --lens may say, and the names that lenses get in the output.
#include <string>
#include <vector>

#include "depthlens/lens/lens.hpp"
#include "depthlens/lens/lens_types.hpp"
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

TEST_CASE("lens names: the type; of several the end of the path too; a given name stays") {
  CHECK(names_of({"logit", "tuned:a", "jacobian:b"}) ==
        std::vector<std::string>{"logit", "tuned", "jacobian"});
  CHECK(names_of({"tuned:a", "tuned:b", "logit", "tuned:c"}) ==
        std::vector<std::string>{"tuned-a", "tuned-b", "logit", "tuned-c"});
  CHECK(names_of({"mine=tuned:a", "tuned:b"}) == std::vector<std::string>{"mine", "tuned"});
  CHECK(names_of({}).empty());
}

TEST_CASE("lens names: a name twice is wrong usage, whoever gave it") {
  check_error(ErrorCode::kUsage, {"two lenses are called 'a'"}, [] { names_of({"a=logit", "a=tuned:x"}); });
  check_error(ErrorCode::kUsage, {"two lenses are called 'tuned'"}, [] {
    names_of({"tuned:x", "tuned=logit"});
  });
  check_error(ErrorCode::kUsage, {"two lenses are called 'tuned-x'"}, [] {
    names_of({"tuned-x=logit", "tuned:x", "tuned:y"});
  });
  check_error(ErrorCode::kUsage, {"two lenses are called 'tuned-2'"}, [] {
    names_of({"tuned-2=logit", "tuned:x", "tuned:x"});
  });
}

TEST_CASE("lens names: what tells the paths of several lenses apart") {
  using Names = std::vector<std::string>;
  // What all paths end in says nothing, nor do params.pt and extensions.
  CHECK(names_of({"tuned:x/sgd/lens", "tuned:x/adam/lens/"}) == Names{"tuned-sgd", "tuned-adam"});
  CHECK(names_of({"tuned:lens/a/params.pt", "tuned:./lens/b"}) == Names{"tuned-a", "tuned-b"});
  CHECK(names_of({"jacobian:a/j.pt", "jacobian:a/k.safetensors"}) == Names{"jacobian-j", "jacobian-k"});
  // The end of the path, as long as it must be.
  CHECK(names_of({"tuned:1/a/x", "tuned:2/a/x", "tuned:2/b/x"}) ==
        Names{"tuned-1-a", "tuned-2-a", "tuned-b"});
  CHECK(names_of({"tuned:x", "tuned:runs/x"}) == Names{"tuned-x", "tuned-runs-x"});
  // A part that says the type, and characters that a name cannot have.
  CHECK(names_of({"tuned:tuned-adam", "tuned:lens"}) == Names{"tuned-adam", "tuned-lens"});
  CHECK(names_of({"tuned:org/m@step1000", "tuned:lr=0.1"}) == Names{"tuned-m-step1000", "tuned-lr-0.1"});
  // The same again: a number.
  CHECK(names_of({"tuned:a", "tuned:a"}) == Names{"tuned", "tuned-2"});
  CHECK(names_of({"tuned:a", "tuned:b", "tuned:a"}) == Names{"tuned-a", "tuned-b", "tuned-a-2"});
  CHECK(names_of({"tuned:a/lens", "tuned:a/lens.safetensors"}) == Names{"tuned", "tuned-2"});
  // Each type by itself.
  CHECK(names_of({"tuned:a", "jacobian:b"}) == Names{"tuned", "jacobian"});
}

TEST_CASE("lens types: their words for help and messages, and the names that they begin") {
  CHECK(lens::lens_words() == "logit, tuned:PATH or jacobian:PATH");
  CHECK(lens::lens_file_words() == "tuned:PATH or jacobian:PATH");
  CHECK(lens::hub_lens_words() == std::vector<std::string>{"tuned:MODEL", "jacobian:ORG/NAME:FILE"});
  CHECK(lens::either({"a"}) == "a");
  for (const lens::LensType& type : lens::lens_types()) {
    INFO(type.name);
    CHECK(lens::find_lens_type(type.name) == &type);
    std::string text = type.name + ":a:b";
    CHECK(lens::take_type(text) == (type.files ? &type : nullptr));
    CHECK(text == (type.files ? "a:b" : type.name + ":a:b"));
  }
  CHECK(lens::find_lens_type("tuned:") == nullptr);
}
