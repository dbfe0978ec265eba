// The thread and its queues.
#include "jit/compile_thread.h"

#include <pthread.h>

#include <chrono>
#include <ctime>

#include "state/log.h"

namespace vellum {

namespace {

u64 thread_nanoseconds() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<u64>(now.tv_sec) * 1'000'000'000 + static_cast<u64>(now.tv_nsec);
}

}  // namespace

CompileThread::CompileThread(CodeMemory& memory, CodeGenerator generator, u64 longest_delay, std::function<void()> done)
    : m_memory(memory), m_generator(generator), m_longest_delay(longest_delay), m_done(std::move(done)) {}

CompileThread::~CompileThread() {
  {
    const std::lock_guard lock(m_mutex);
    m_stop = true;
    m_jobs.clear();
  }
  m_changed.notify_all();
  if (m_thread.joinable()) m_thread.join();
}

void CompileThread::submit(u64 ticket, Region region) {
  {
    const std::lock_guard lock(m_mutex);
    m_jobs.push_back({ticket, std::move(region)});
    if (!m_thread.joinable()) m_thread = std::thread([this] { run(); });
  }
  m_changed.notify_all();
}

std::deque<CompileThread::Result> CompileThread::take_results() {
  const std::lock_guard lock(m_mutex);
  return std::exchange(m_results, {});
}

void CompileThread::cancel(u64 ticket) {
  const std::lock_guard lock(m_mutex);
  std::erase_if(m_jobs, [ticket](const Job& job) { return job.ticket == ticket; });
}

void CompileThread::drain() {
  std::unique_lock lock(m_mutex);
  m_jobs.clear();
  m_changed.wait(lock, [this] { return !m_busy; });
  m_results.clear();
}

bool CompileThread::finish() {
  std::unique_lock lock(m_mutex);
  m_changed.wait(lock, [this] { return !m_busy && (m_jobs.empty() || !m_memory.has_room()); });
  return m_jobs.empty();
}

bool CompileThread::idle() {
  const std::lock_guard lock(m_mutex);
  return !m_busy;
}

void CompileThread::resume() {
  const std::lock_guard lock(m_mutex);  // or the thread might have looked just before and sleep just behind this
  m_changed.notify_all();
}

// Now and then for long, as if the host had stopped the thread.
void CompileThread::delay(std::unique_lock<std::mutex>& lock) {
  if (m_longest_delay == 0) return;
  constexpr u64 kSeldom = 16, kLong = 20;
  const u64 longest = m_random() % kSeldom == 0 ? kLong * m_longest_delay : m_longest_delay;
  m_changed.wait_for(lock, std::chrono::microseconds(m_random() % (longest + 1)), [this] { return m_stop; });
}

void CompileThread::run() {
  pthread_setname_np(pthread_self(), "vellum-compiler");
  std::unique_ptr<RegionCompiler> compiler;
  std::string no_compiler;
  std::unique_lock lock(m_mutex);
  while (true) {
    m_changed.wait(lock, [this] { return m_stop || (!m_jobs.empty() && m_memory.has_room()); });
    if (m_stop) return;
    Job job = std::move(m_jobs.front());
    m_jobs.pop_front();
    m_busy = true;
    delay(lock);
    lock.unlock();
    const u64 started = thread_nanoseconds();
    std::expected<CompiledRegion, std::string> code = std::unexpected(no_compiler);
    if (!compiler && no_compiler.empty()) {
#if VELLUM_LLVM
      auto created = RegionCompiler::create(m_memory, {.cpu = {}, .features = {}, .generator = m_generator});
      if (created) compiler = std::move(*created);
      else code = std::unexpected(no_compiler = created.error());
#endif
    }
    RegionTexts texts;
    if (compiler) {
      if (log_enabled(LogItem::Op)) compiler->keep_texts(&texts);
      code = compiler->compile(job.region);
    }
    const u64 spent = thread_nanoseconds() - started;
    lock.lock();
    delay(lock);
    m_results.push_back({job.ticket, std::move(code), spent, std::move(texts)});
    m_done();  // before anybody who waits for the result goes on: what comes later would keep regions out for a slice
    m_busy = false;
    lock.unlock();
    m_changed.notify_all();
    lock.lock();
  }
}

}  // namespace vellum
