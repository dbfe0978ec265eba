// Compiling in the background: regions go in, host code comes out.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <random>
#include <thread>

#include "jit/optimizer/region_compiler.h"

namespace vellum {

class CompileThread {
 public:
  struct Result {
    u64 ticket;
    std::expected<CompiledRegion, std::string> code;
    u64 nanoseconds;  // CPU time
    RegionTexts texts;  // with -d op
  };
  // `done` is called in the compiling thread whenever a result waits.
  // `longest_delay`: see EngineOptions::inject_delay.
  CompileThread(CodeMemory& memory, CodeGenerator generator, u64 longest_delay, std::function<void()> done);
  ~CompileThread();

  void submit(u64 ticket, Region region);
  std::deque<Result> take_results();
  // Nobody wants this result any more: unless its turn has come, the region is not compiled.
  void cancel(u64 ticket);
  // Regions that wait are dropped; returns when none is being compiled.
  void drain();
  // Waits until everything submitted has a result, or, returning false, until the memory has no room for the rest.
  bool finish();
  // No region is being compiled: where memory has no room, that stays so until resume().
  bool idle();
  // The memory has room again.
  void resume();

 private:
  struct Job {
    u64 ticket;
    Region region;
  };
  void run();
  void delay(std::unique_lock<std::mutex>& lock);

  CodeMemory& m_memory;
  CodeGenerator m_generator;
  u64 m_longest_delay;  // microseconds
  std::minstd_rand m_random{std::random_device()()};
  std::function<void()> m_done;
  std::mutex m_mutex;
  std::condition_variable m_changed;
  std::deque<Job> m_jobs;
  std::deque<Result> m_results;
  bool m_busy = false, m_stop = false;
  std::thread m_thread;  // started by the first region
};

}  // namespace vellum
