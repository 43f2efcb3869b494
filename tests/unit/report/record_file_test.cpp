// The file of records in its two formats, and the lists of fields.
#include "depthlens/report/record_file.hpp"

#include "depthlens/report/record_fields.hpp"
#include "support/check_error.hpp"
#include "support/temporary_folder.hpp"

using namespace depthlens;
using report::RecordField;
using report::RecordFields;
using report::RecordFile;
using report::RecordFormat;
using report::RecordReader;
using test::check_error;
using test::TemporaryFolder;
using util::ErrorCode;
namespace fs = std::filesystem;

TEST_CASE("file of records: what is written in either format is read back, under the format's name") {
  for (const auto& [format, name] : {std::pair(RecordFormat::kJsonl, "records.jsonl"),
                                     std::pair(RecordFormat::kJsonlZstd, "records.jsonl.zst")}) {
    const TemporaryFolder folder;
    {
      RecordFile file(folder.path(), format);
      file.write("{\"a\": 1}\n");
      file.write("{\"b\": 2}\n");
      CHECK(report::find_records(folder.path()).empty());
      file.commit();
    }
    CHECK(report::find_records(folder.path()) == folder.path() / name);
    RecordReader reader(folder.path() / name);
    std::string_view line;
    REQUIRE(reader.next(line));
    CHECK(line == "{\"a\": 1}");
    CHECK(reader.where() == (folder.path() / name).string() + " line 1");
    REQUIRE(reader.next(line));
    CHECK(line == "{\"b\": 2}");
    CHECK_FALSE(reader.next(line));
    CHECK(reader.number() == 2);
    CHECK(reader.has_checksum() == (format == RecordFormat::kJsonlZstd));
  }
}

TEST_CASE("file of records: without a line it is there and empty") {
  const TemporaryFolder folder;
  RecordFile(folder.path(), RecordFormat::kJsonlZstd).commit();
  RecordReader reader(folder.path() / "records.jsonl.zst");
  std::string_view line;
  CHECK_FALSE(reader.next(line));
  CHECK(reader.number() == 0);
}

TEST_CASE("file of records: two in a folder are an error, and so is what is not compressed under that name") {
  const TemporaryFolder folder;
  folder.write("records.jsonl.zst", "{}\n");
  check_error(ErrorCode::kFormat, {"not a zstd file", "records.jsonl.zst"},
              [&] { RecordReader(folder.path() / "records.jsonl.zst"); });
  folder.write("records.jsonl", "{}\n");
  check_error(ErrorCode::kFormat,
              {"two files of records", folder.path().string(), "records.jsonl and records.jsonl.zst"},
              [&] { report::find_records(folder.path()); });
  check_error(ErrorCode::kInput, {"records.jsonl"},
              [&] { RecordReader(folder.path() / "missing" / "records.jsonl"); });
}

TEST_CASE("fields of records: a list in any order, each once, in the order of a record") {
  CHECK_FALSE(RecordFields().is_chosen());
  CHECK(RecordFields().names().size() == report::kRecordFieldNames.size());
  CHECK(RecordFields().has(RecordField::kWatched));
  const RecordFields some = RecordFields::parse("entropy, final_rank,entropy");
  CHECK(some.is_chosen());
  CHECK(some.names() == std::vector<std::string>{"final_rank", "entropy"});
  CHECK(some.has(RecordField::kEntropy));
  CHECK_FALSE(some.has(RecordField::kTopIds));
  CHECK_FALSE(some.has_predictions());
  CHECK(RecordFields::parse("top_logprobs").has_predictions());
  for (const char* name : report::kRecordFieldNames)
    CHECK(RecordFields::parse(name).names() == std::vector<std::string>{name});

  check_error(
      ErrorCode::kUsage,
      {"unknown field 'entropi'", "--record-fields", "top_ids, top_tokens", "did you mean 'entropy'?"},
      [] { RecordFields::parse("final_rank,entropi"); });
  check_error(ErrorCode::kUsage, {"unknown field ''"}, [] { RecordFields::parse("final_rank,"); });
  const auto from = [](const util::Json& list) { return RecordFields::from_json({list, "run.json"}); };
  CHECK(from({"kl_final", "top_ids"}).names() == std::vector<std::string>{"top_ids", "kl_final"});
  for (const util::Json& bad :
       {util::Json("entropy"), util::Json::array(), util::Json::array({"entropi"}), util::Json::array({7})})
    check_error(ErrorCode::kFormat, {"run.json"}, [&] { from(bad); });
}
