// Symbols from System.map and from nothing.
#include <catch2/catch.hpp>

#include <unistd.h>

#include <cstdlib>
#include <string>

#include "debug/symbols.h"

using namespace vellum;

namespace {

struct TextFile {
  explicit TextFile(const std::string& text) {
    const int descriptor = mkstemp(path.data());
    REQUIRE(write(descriptor, text.data(), text.size()) == static_cast<ssize_t>(text.size()));
    close(descriptor);
  }
  ~TextFile() { unlink(path.c_str()); }
  std::string path = "/tmp/vellum-symbols-XXXXXX";
};

}  // namespace

TEST_CASE("System.map: names, and the nearest name below an address") {
  const TextFile file("ffffffff81000000 T startup_64\nffffffff81000070 t secondary\nffffffff81000080 D data [module]\ngarbage\n0000000000000000 A zero\n");
  Symbols symbols;
  REQUIRE(symbols.load(file.path));
  CHECK(symbols.count() == 3);
  CHECK(symbols.address("secondary") == 0xffffffff81000070);
  CHECK(symbols.address("data") == 0xffffffff81000080);
  CHECK(symbols.describe(0xffffffff81000000) == "startup_64");
  CHECK(symbols.describe(0xffffffff8100007f) == "secondary+0xf");
  CHECK(symbols.describe(0xffffffff80ffffff).empty());
  CHECK(symbols.describe(0xffffffff91000000).empty());
  CHECK(symbols.with_prefix("s", 10) == std::vector<std::string>{"secondary", "startup_64"});
}

TEST_CASE("a file without symbols is refused in words") {
  const TextFile file("\x7f" "ELF nothing");
  Symbols symbols;
  CHECK_FALSE(symbols.load(file.path));
  CHECK_FALSE(symbols.load("/nonexistent/System.map"));
  CHECK(symbols.load("/nonexistent/System.map").error().message.starts_with("cannot open /nonexistent/System.map"));
}
