// Writing perf's map and jitdump files.
#include "jit/perf_files.h"

#include <elf.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <ctime>

namespace vellum {

namespace {

struct CloseFile {
  void operator()(std::FILE* file) const { std::fclose(file); }
};
using File = std::unique_ptr<std::FILE, CloseFile>;

std::string name_of(u64 rip, const char* tier) { return fmt::format("guest_{:#x}_{}", rip, tier); }

class PerfMap final : public TranslationObserver {
 public:
  PerfMap(const CpuCore& core, File file) : m_core(core), m_file(std::move(file)) {}
  void block_translated(const Block&, std::span<const CodePart>, const BlockCode& code) override {
    const std::string name = name_of(m_core.s.rip, "baseline");
    write(code.hot, name);
    write(code.cold, name);
  }
  void region_translated(u64 rip, std::span<Block* const>, std::span<const u8> code) override { write(code, name_of(rip, "optimized")); }

 private:
  void write(std::span<const u8> code, const std::string& name) {
    const std::string line = fmt::format("{:x} {:x} {}\n", reinterpret_cast<u64>(code.data()), code.size(), name);
    std::fwrite(line.data(), 1, line.size(), m_file.get());
  }
  const CpuCore& m_core;
  File m_file;
};

// The format's structures; all numbers in the host's byte order.
struct JitDumpHeader {
  u32 magic = 0x4a695444;
  u32 version = 1;
  u32 total_size = sizeof(JitDumpHeader);
  u32 machine;
  u32 padding = 0;
  u32 pid;
  u64 timestamp;
  u64 flags = 0;
};
static_assert(sizeof(JitDumpHeader) == 40);
struct JitDumpRecord {
  u32 id;
  u32 total_size;
  u64 timestamp;
};
constexpr u32 kCodeLoad = 0, kCodeClose = 3;
struct CodeLoad {
  JitDumpRecord record;
  u32 pid, tid;
  u64 virtual_address, code_address, code_size, code_index;
};
static_assert(sizeof(CodeLoad) == 56);

// What perf record -k mono stamps its samples with.
u64 monotonic_time() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<u64>(now.tv_sec) * 1'000'000'000 + static_cast<u64>(now.tv_nsec);
}

class JitDump final : public TranslationObserver {
 public:
  JitDump(const CpuCore& core, File file, void* marker) : m_core(core), m_file(std::move(file)), m_marker(marker) {
    put(JitDumpHeader{
#if defined(__aarch64__)
        .machine = EM_AARCH64,
#else
        .machine = EM_X86_64,
#endif
        .pid = static_cast<u32>(getpid()), .timestamp = monotonic_time()});
  }
  ~JitDump() override {
    put(JitDumpRecord{kCodeClose, sizeof(JitDumpRecord), monotonic_time()});
    munmap(m_marker, kPageSize);
  }
  void block_translated(const Block&, std::span<const CodePart>, const BlockCode& code) override {
    const std::string name = name_of(m_core.s.rip, "baseline");
    write(code.hot, name);
    write(code.cold, name);
  }
  void region_translated(u64 rip, std::span<Block* const>, std::span<const u8> code) override { write(code, name_of(rip, "optimized")); }

 private:
  template <class T>
  void put(const T& value) {
    std::fwrite(&value, sizeof(value), 1, m_file.get());
  }
  void write(std::span<const u8> code, const std::string& name) {
    const u64 address = reinterpret_cast<u64>(code.data());
    const u32 total = static_cast<u32>(sizeof(CodeLoad) + name.size() + 1 + code.size());
    put(CodeLoad{{kCodeLoad, total, monotonic_time()}, static_cast<u32>(getpid()), static_cast<u32>(syscall(SYS_gettid)), address, address,
                 code.size(), m_index++});
    std::fwrite(name.c_str(), 1, name.size() + 1, m_file.get());
    std::fwrite(code.data(), 1, code.size(), m_file.get());
    std::fflush(m_file.get());  // complete even if the program is killed
  }
  const CpuCore& m_core;
  File m_file;
  void* m_marker;
  u64 m_index = 0;
};

Error cannot(std::string_view option, const std::string& path) {
  return Error{fmt::format("{}: cannot write {}: {}", option, path, std::strerror(errno))};
}

}  // namespace

Result<std::shared_ptr<TranslationObserver>> make_perf_map(const CpuCore& core) {
  const std::string path = fmt::format("/tmp/perf-{}.map", getpid());
  File file(std::fopen(path.c_str(), "we"));
  if (!file) return std::unexpected(cannot("-perfmap", path));
  std::setvbuf(file.get(), nullptr, _IOLBF, 0);
  return std::make_shared<PerfMap>(core, std::move(file));
}

Result<std::shared_ptr<TranslationObserver>> make_jit_dump(const CpuCore& core) {
  const std::string path = fmt::format("jit-{}.dump", getpid());
  File file(std::fopen(path.c_str(), "w+e"));
  if (!file) return std::unexpected(cannot("-jitdump", path));
  // An executable mapping of the file's beginning tells perf record that it is there.
  void* marker = mmap(nullptr, kPageSize, PROT_READ | PROT_EXEC, MAP_PRIVATE, fileno(file.get()), 0);
  if (marker == MAP_FAILED) return std::unexpected(cannot("-jitdump", path));
  return std::make_shared<JitDump>(core, std::move(file), marker);
}

}  // namespace vellum
