// The run loop, both clocks, reset and the ways to end.
#include <catch2/catch.hpp>

#include "machine/fake_parts.h"

using namespace vellum;
using vellum::test::FakeMachine;

TEST_CASE("instruction time is one nanosecond an instruction, and timers fire at their own instruction") {
  FakeMachine fake;
  std::vector<u64> ticks_seen;
  fake.cpu->on_instruction = [&] {
    if (fake.cpu->retired() == 999 || fake.cpu->retired() == 1001) ticks_seen.push_back(fake.device->ticks());
  };
  fake.machine->run_instructions(10'500);
  CHECK(fake.cpu->retired() == 10'500);
  CHECK(fake.machine->clock().now() == 10'500);
  CHECK(ticks_seen == std::vector<u64>{0, 1});
  CHECK(fake.device->ticks() == 10);
}

TEST_CASE("a device that reads the clock inside an instruction sees that instruction's time") {
  FakeMachine fake;
  Ticks seen = 0;
  fake.cpu->on_instruction = [&] {
    if (fake.cpu->retired() == 77) seen = fake.cpu->environment().time_stamp_counter();
  };
  fake.machine->run_instructions(100);
  CHECK(seen == 77);
}

TEST_CASE("instruction time jumps to the next deadline when the CPU is halted") {
  FakeMachine fake;
  fake.cpu->halted = true;
  fake.cpu->on_instruction = [&] { fake.cpu->halted = true; };
  Timer end(fake.machine->clock(), [&] { fake.machine->request_end(3); });
  end.arm(5 * kTicksPerSecond);
  fake.machine->start();
  CHECK(fake.machine->run() == 3);
  CHECK(fake.machine->clock().now() == 5 * kTicksPerSecond);
  CHECK(fake.device->ticks() == 5'000'000);
}

TEST_CASE("a timer armed during a slice before every other deadline is not late") {
  FakeMachine fake;
  u64 fired_at = 0;
  Timer early(fake.machine->clock(), [&] { fired_at = fake.cpu->retired(); });
  fake.cpu->on_instruction = [&] {
    if (fake.cpu->retired() == 100) early.arm(fake.machine->clock().now() + 50);
  };
  fake.machine->run_instructions(900);
  CHECK(fired_at == 150);
}

TEST_CASE("real time flows while the machine runs and stands while it is stopped") {
  FakeMachine fake(ClockMode::Realtime);
  auto& clock = fake.machine->clock();
  const Ticks before = clock.now();
  const u64 host = host_nanoseconds();
  while (host_nanoseconds() - host < 1'000'000) {}
  CHECK(clock.now() == before);
  fake.machine->start();
  const u64 started = host_nanoseconds();
  while (host_nanoseconds() - started < 2'000'000) {}
  CHECK(clock.now() >= before + 2'000'000);
  fake.machine->stop();
  const Ticks stopped = clock.now();
  CHECK(clock.now() == stopped);
}

// Otherwise timers are late, and a keyboard whose bytes wait for one each loses keys.
TEST_CASE("slices in real time stay short when the guest suddenly becomes slow") {
  FakeMachine fake(ClockMode::Realtime);
  fake.device->silence();
  fake.machine->run_instructions(20'000'000);
  fake.cpu->on_instruction = [] {
    for (volatile int i = 0; i < 3000; ++i) {}
  };
  fake.machine->run_instructions(100'000);  // the first slice could not know
  fake.cpu->runs = 0;
  fake.machine->run_instructions(100'000);
  CHECK(fake.cpu->runs > 30);
}

TEST_CASE("slices in real time become long again when the guest becomes fast") {
  FakeMachine fake(ClockMode::Realtime);
  fake.device->silence();
  fake.cpu->on_instruction = [] {
    for (volatile int i = 0; i < 300; ++i) {}
  };
  fake.machine->run_instructions(200'000);
  fake.cpu->on_instruction = nullptr;
  fake.cpu->runs = 0;
  fake.machine->run_instructions(50'000'000);
  CHECK(fake.cpu->runs < 1000);
}

TEST_CASE("a halted machine in real time sleeps until its deadline") {
  FakeMachine fake(ClockMode::Realtime);
  fake.cpu->halted = true;
  Timer end(fake.machine->clock(), [&] { fake.machine->request_end(0); });
  end.arm(20'000'000);
  fake.machine->start();
  const u64 started = host_nanoseconds();
  CHECK(fake.machine->run() == 0);
  CHECK(host_nanoseconds() - started >= 19'000'000);
}

TEST_CASE("a triple fault resets devices, CPU and board, and keeps virtual time") {
  FakeMachine fake;
  fake.cpu->on_instruction = [&] {
    if (fake.cpu->retired() == 500) fake.cpu->shut_down = true;
  };
  fake.machine->run_instructions(1000);
  CHECK(fake.cpu->resets == 2);
  CHECK(fake.device->resets == 2);
  CHECK(fake.board->resets == 2);
  CHECK(fake.machine->clock().now() == 1000);
}

TEST_CASE("the first request to end decides the exit status") {
  FakeMachine fake;
  fake.cpu->on_instruction = [&] {
    if (fake.cpu->retired() == 10) {
      fake.machine->request_end(33);
      fake.machine->request_end(0);
    }
  };
  fake.machine->start();
  CHECK(fake.machine->run() == 33);
  CHECK(fake.cpu->retired() < 1000);
}

TEST_CASE("random numbers are repeatable with instruction time") {
  FakeMachine first, second;
  const u64 a = first.cpu->environment().random();
  CHECK(a == second.cpu->environment().random());
  CHECK(a != first.cpu->environment().random());
}
