// Archive: what is written is read back; what does not fit is refused.
#include <catch2/catch.hpp>

#include "state/archive.h"

using namespace vellum;

namespace {

struct Sample {
  u32 number = 0;
  bool flag = false;
  std::array<u8, 4> bytes{};
  std::vector<u16> list;
  void visit(Archive& archive) { archive("number", number)("flag", flag)("bytes", bytes)("list", list); }
};

std::vector<u8> written(Sample sample) {
  ArchiveWriter writer;
  writer("sample", sample);
  return writer.take();
}

const Sample kSample{0x12345678, true, {1, 2, 3, 4}, {5, 6, 7}};

}  // namespace

TEST_CASE("a written value is read back equal") {
  const auto data = written(kSample);
  Sample loaded;
  ArchiveReader reader(data);
  reader("sample", loaded);
  REQUIRE_FALSE(reader.failed());
  CHECK(reader.at_end());
  CHECK(loaded.number == kSample.number);
  CHECK(loaded.flag == kSample.flag);
  CHECK(loaded.bytes == kSample.bytes);
  CHECK(loaded.list == kSample.list);
}

TEST_CASE("every truncation is refused") {
  const auto data = written(kSample);
  const auto length = GENERATE_COPY(range<std::size_t>(0, data.size()));
  CAPTURE(length);
  Sample loaded;
  ArchiveReader reader(std::span(data).first(length));
  reader("sample", loaded);
  CHECK(reader.failed());
}

TEST_CASE("a field of another name is refused") {
  ArchiveWriter writer;
  u32 value = 1;
  writer("first", value);
  ArchiveReader reader(writer.data());
  reader("second", value);
  REQUIRE(reader.failed());
  CHECK(reader.error()->message.find("second") != std::string::npos);
}

TEST_CASE("an impossible element count does not allocate") {
  auto data = written(kSample);
  const std::string_view name = "count";
  auto position = std::search(data.begin(), data.end(), name.begin(), name.end());
  REQUIRE(position != data.end());
  std::fill_n(position + name.size() + 4, 8, u8{0xff});
  Sample loaded;
  ArchiveReader reader(data);
  reader("sample", loaded);
  CHECK(reader.failed());
  CHECK(loaded.list.empty());
}

TEST_CASE("the hash tells equal from different") {
  const auto hash = [](Sample sample) {
    ArchiveHasher hasher;
    hasher("sample", sample);
    return hasher.hash();
  };
  Sample other = kSample;
  other.list[2] = 8;
  CHECK(hash(kSample) == hash(kSample));
  CHECK(hash(kSample) != hash(other));
}
