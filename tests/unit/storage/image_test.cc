// Images: what opens, what is refused and with which words, padding, locks and the overlay.
#include <catch2/catch.hpp>

#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "storage/image.h"
#include "storage/memory_disk.h"
#include "storage/overlay.h"
#include "storage/raw_image.h"

using namespace vellum;
using Catch::Contains;

namespace {

class Directory {
 public:
  Directory() {
    std::string name = "/tmp/vellum-image-test-XXXXXX";
    m_path = mkdtemp(name.data());
  }
  ~Directory() { std::filesystem::remove_all(m_path); }
  std::string file(const std::string& name, const std::string& content) const {
    const std::string path = m_path + "/" + name;
    std::ofstream(path, std::ios::binary) << content;
    return path;
  }
  const std::string& path() const { return m_path; }

 private:
  std::string m_path;
};

std::string error_of(const ImageOptions& options) {
  auto image = open_image(options);
  return image ? "(opened)" : image.error().message;
}

std::string content(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

}  // namespace

TEST_CASE("opening an image that is not there, is a directory, is empty or is a device says so in one line") {
  const Directory directory;
  CHECK_THAT(error_of({.path = directory.path() + "/none"}), Contains("no such file"));
  CHECK_THAT(error_of({.path = directory.path()}), Contains("is a directory"));
  CHECK_THAT(error_of({.path = directory.file("empty", "")}), Contains("it is empty"));
  CHECK_THAT(error_of({.path = "/dev/null"}), Contains("neither a regular file nor a block device"));
  CHECK_THAT(error_of({.path = ""}), Contains("without a file name"));
  CHECK(error_of({.path = directory.path() + "/none"}).find('\n') == std::string::npos);
}

TEST_CASE("an unknown format is refused") {
  const Directory directory;
  CHECK_THAT(error_of({.path = directory.file("a", std::string(512, 'a')), .format = "qcow2"}),
             Contains("'qcow2' is not supported"));
}

TEST_CASE("an image in another format is named unless format=raw is given") {
  const Directory directory;
  const auto path = directory.file("disk", std::string("QFI\xfb", 4) + std::string(1020, '\0'));
  CHECK_THAT(error_of({.path = path}), Contains("this is a qcow2 image") && Contains("qemu-img convert"));
  CHECK(open_image({.path = path, .format = "raw"}).has_value());
}

TEST_CASE("probing knows the headers of the common formats and takes short input") {
  const auto probe = [](std::string text) {
    return probe_image_format({reinterpret_cast<const u8*>(text.data()), text.size()});
  };
  CHECK(probe("KDMV....") == "vmdk");
  CHECK(probe("# Disk DescriptorFile\n") == "vmdk");
  CHECK(probe(std::string(64, ' ') + "\x7f\x10\xda\xbe") == "vdi");
  CHECK(probe("vhdxfile") == "vhdx");
  CHECK(probe("conectix") == "vpc");
  CHECK(probe("QFI").empty());
  CHECK(probe("").empty());
  CHECK(probe(std::string(512, '\0')).empty());
}

TEST_CASE("a file that does not fill its last sector reads as padded with zeroes and grows when that is written") {
  const Directory directory;
  const auto path = directory.file("short", std::string(700, 'x'));
  auto image = open_image({.path = path});
  REQUIRE(image);
  CHECK((*image)->size() == 1024);
  std::vector<u8> data(512, 0xee);
  REQUIRE((*image)->read(512, data));
  CHECK(data[187] == 'x');
  CHECK(data[188] == 0);
  CHECK(data[511] == 0);
  std::vector<u8> sector(512, 'y');
  REQUIRE((*image)->write(512, sector));
  REQUIRE((*image)->flush());
  CHECK(content(path) == std::string(512, 'x') + std::string(512, 'y'));
}

TEST_CASE("a file that was cut behind our back gives an error, not stale or invented data") {
  const Directory directory;
  const auto path = directory.file("cut", std::string(4096, 'x'));
  auto image = open_image({.path = path});
  REQUIRE(image);
  REQUIRE(truncate(path.c_str(), 512) == 0);
  std::vector<u8> data(512);
  CHECK_THAT((*image)->read(1024, data).error().message, Contains("shortened"));
}

TEST_CASE("a read-only image refuses writes") {
  const Directory directory;
  const auto path = directory.file("ro", std::string(512, 'x'));
  auto image = open_image({.path = path, .read_only = true});
  REQUIRE(image);
  CHECK((*image)->read_only());
  std::vector<u8> sector(512, 'y');
  CHECK_FALSE((*image)->write(0, sector));
  CHECK(content(path) == std::string(512, 'x'));
}

TEST_CASE("two writers of one image are refused, two readers are not") {
  const Directory directory;
  const auto path = directory.file("disk", std::string(512, 'x'));
  {
    auto writer = open_image({.path = path});
    REQUIRE(writer);
    CHECK_THAT(error_of({.path = path}), Contains("locked"));
    CHECK_THAT(error_of({.path = path, .read_only = true}), Contains("locked"));
  }
  auto reader = open_image({.path = path, .read_only = true});
  REQUIRE(reader);
  CHECK(open_image({.path = path, .snapshot = true}).has_value());
  CHECK_THAT(error_of({.path = path}), Contains("locked"));
}

TEST_CASE("snapshot=on keeps writes aside and leaves the file as it was") {
  const Directory directory;
  const auto path = directory.file("disk", std::string(200 * 1024, 'x'));
  chmod(path.c_str(), 0444);
  auto image = open_image({.path = path, .snapshot = true});
  REQUIRE(image);
  CHECK_FALSE((*image)->read_only());
  std::vector<u8> written(2 * 512, 'y');
  // Across a cluster boundary, and in the last, partial cluster.
  REQUIRE((*image)->write(Overlay::kClusterSize - 512, written));
  REQUIRE((*image)->write(199 * 1024, written));
  std::vector<u8> all((*image)->size());
  REQUIRE((*image)->read(0, all));
  std::string expected(200 * 1024, 'x');
  expected.replace(Overlay::kClusterSize - 512, 1024, std::string(1024, 'y'));
  expected.replace(199 * 1024, 1024, std::string(1024, 'y'));
  CHECK(std::string(all.begin(), all.end()) == expected);
  CHECK(content(path) == std::string(200 * 1024, 'x'));
}

TEST_CASE("the overlay holds only clusters that were written") {
  auto overlay = Overlay::create(std::make_unique<MemoryDisk>(std::vector<u8>(1 << 20)));
  REQUIRE(overlay);
  std::vector<u8> sector(512, 1);
  REQUIRE((*overlay)->write(0, sector));
  REQUIRE((*overlay)->write(512, sector));
  REQUIRE((*overlay)->write(512 << 10, sector));
  CHECK((*overlay)->clusters_used() == 2);
}

TEST_CASE("snapshot=on with readonly=on gives a write-protected medium") {
  const Directory directory;
  auto image = open_image({.path = directory.file("d", std::string(512, 'x')), .read_only = true, .snapshot = true});
  REQUIRE(image);
  CHECK((*image)->read_only());
}

TEST_CASE("an overlay goes back to what it held, in any order and as often as wanted") {
  auto created = Overlay::create(std::make_unique<MemoryDisk>(std::vector<u8>(4 * Overlay::kClusterSize, 0x11)));
  REQUIRE(created);
  Overlay& overlay = **created;
  std::vector<u8> sector(512);
  const auto put = [&](u64 cluster, u8 value) { REQUIRE(overlay.write(cluster * Overlay::kClusterSize + 1024, std::vector<u8>(512, value))); };
  const auto held = [&] {
    std::vector<u8> values;
    for (u64 cluster = 0; cluster < 4; ++cluster) {
      REQUIRE(overlay.read(cluster * Overlay::kClusterSize + 1024, sector));
      CHECK(std::ranges::all_of(sector, [&](u8 byte) { return byte == sector[0]; }));
      values.push_back(sector[0]);
    }
    return values;
  };
  const auto first = overlay.save_contents();
  put(0, 1), put(1, 1);
  const auto second = overlay.save_contents();
  put(1, 2), put(2, 2), put(2, 3);
  const auto third = overlay.save_contents();
  for (const int order : {2, 0, 1, 2, 1, 0}) {
    overlay.load_contents(order == 0 ? first : order == 1 ? second : third);
    CHECK(held() == (order == 0 ? std::vector<u8>{0x11, 0x11, 0x11, 0x11} : order == 1 ? std::vector<u8>{1, 1, 0x11, 0x11} : std::vector<u8>{1, 2, 3, 0x11}));
    // What is written now must reach none of them.
    put(0, 9), put(1, 9), put(2, 9), put(3, 9);
  }
}

TEST_CASE("an overlay's file does not grow without end when contents are saved and forgotten") {
  auto created = Overlay::create(std::make_unique<MemoryDisk>(std::vector<u8>(8 * Overlay::kClusterSize)));
  REQUIRE(created);
  Overlay& overlay = **created;
  for (unsigned i = 0; i < 1500; ++i) {
    const auto saved = overlay.save_contents();
    REQUIRE(overlay.write(i % 8 * Overlay::kClusterSize, std::vector<u8>(512, static_cast<u8>(i))));
  }
  CHECK(overlay.clusters_used() == 8);
  CHECK(overlay.file_clusters() < 1200);
}
