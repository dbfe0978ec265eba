// The 8237A pair against the Intel 8237A datasheet (231466) and the IBM PC AT's page registers.
#include <catch2/catch.hpp>

#include <numeric>

#include "devices/dma8237.h"
#include "fakes.h"

using namespace vellum;

namespace {

struct Dma {
  std::unique_ptr<GuestRam> ram = std::move(GuestRam::create(16u << 20).value());
  AddressSpace memory{*ram};
  Dma8237Pair dma{memory};

  Dma() {
    memory.map_ram("ram", GuestPhysAddr(0), 16u << 20, 0);
    dma.reset(ResetKind::PowerOn);
    out(0xd6, 0xc0);  // channel 4: cascade
    out(0xd4, 0x00);  // unmasked
  }
  void out(u16 port, u8 value) { dma.write_port(port, 1, value); }
  u8 in(u16 port) { return static_cast<u8>(dma.read_port(port, 1)); }
  // Channel 2, as a floppy driver programs it.
  void floppy(u8 mode, u32 address, u16 count) {
    out(0x0a, 0x06);
    out(0x0c, 0);
    out(0x0b, mode | 2);
    out(0x04, static_cast<u8>(address));
    out(0x04, static_cast<u8>(address >> 8));
    out(0x81, static_cast<u8>(address >> 16));
    out(0x05, static_cast<u8>(count));
    out(0x05, static_cast<u8>(count >> 8));
    out(0x0a, 0x02);
  }
  u16 word(u16 port) {
    out(0x0c, 0);
    const u8 low = in(port);
    return static_cast<u16>(low | in(port) << 8);
  }
};

std::vector<u8> counting(usize size) {
  std::vector<u8> data(size);
  std::iota(data.begin(), data.end(), u8{1});
  return data;
}

constexpr u8 kSingleWrite = 0x44, kSingleRead = 0x48, kSingleVerify = 0x40;

}  // namespace

TEST_CASE("8237: a device's bytes arrive in memory, and the last one pulses TC") {
  Dma d;
  d.floppy(kSingleWrite, 0x21234, 511);
  auto data = counting(512);
  const auto first = d.dma.transfer(2, std::span(data).first(500), DmaDirection::ToMemory);
  CHECK(first.transferred == 500);
  CHECK_FALSE(first.terminal_count);
  CHECK(d.word(0x05) == 11);
  CHECK(d.word(0x04) == 0x1234 + 500);
  const auto second = d.dma.transfer(2, std::span(data).subspan(500), DmaDirection::ToMemory);
  CHECK(second.transferred == 12);
  CHECK(second.terminal_count);
  std::vector<u8> memory(512);
  d.memory.read(GuestPhysAddr(0x21234), memory);
  CHECK(memory == data);
}

TEST_CASE("8237: memory goes to the device in read mode") {
  Dma d;
  const auto data = counting(16);
  d.memory.write(GuestPhysAddr(0x5000), data);
  d.floppy(kSingleRead, 0x5000, 15);
  std::vector<u8> got(16);
  CHECK(d.dma.transfer(2, got, DmaDirection::FromMemory).transferred == 16);
  CHECK(got == data);
}

TEST_CASE("8237: TC stops a transfer, sets the status bit and masks the channel") {
  Dma d;
  d.floppy(kSingleWrite, 0x1000, 3);
  auto data = counting(10);
  const auto result = d.dma.transfer(2, data, DmaDirection::ToMemory);
  CHECK(result.transferred == 4);
  CHECK(result.terminal_count);
  CHECK(d.in(0x08) == 0x04);
  CHECK(d.in(0x08) == 0x00);  // reading clears it
  CHECK((d.in(0x0f) & 0x0f) == 0x0f);
  CHECK(d.dma.transfer(2, data, DmaDirection::ToMemory).transferred == 0);
  CHECK(d.word(0x05) == 0xffff);
}

TEST_CASE("8237: autoinitialize reloads address and count and leaves the channel unmasked") {
  Dma d;
  d.floppy(kSingleWrite | 0x10, 0x1000, 3);
  auto data = counting(4);
  CHECK(d.dma.transfer(2, data, DmaDirection::ToMemory).terminal_count);
  CHECK(d.word(0x04) == 0x1000);
  CHECK(d.word(0x05) == 3);
  CHECK(d.dma.transfer(2, data, DmaDirection::ToMemory).transferred == 4);
}

TEST_CASE("8237: addresses wrap within the 64 KiB page") {
  Dma d;
  d.floppy(kSingleWrite, 0x2fffe, 3);
  auto data = counting(4);
  d.dma.transfer(2, data, DmaDirection::ToMemory);
  CHECK(d.memory.read_value<u16>(GuestPhysAddr(0x2fffe)) == 0x0201);
  CHECK(d.memory.read_value<u16>(GuestPhysAddr(0x20000)) == 0x0403);
  CHECK(d.memory.read_value<u16>(GuestPhysAddr(0x30000)) == 0);
}

TEST_CASE("8237: decrement mode walks down") {
  Dma d;
  d.floppy(kSingleWrite | 0x20, 0x1003, 3);
  auto data = counting(4);
  d.dma.transfer(2, data, DmaDirection::ToMemory);
  CHECK(d.memory.read_value<u32>(GuestPhysAddr(0x1000)) == 0x01020304);
}

TEST_CASE("8237: verify moves no byte but counts") {
  Dma d;
  d.floppy(kSingleVerify, 0x1000, 3);
  auto data = counting(4);
  const auto result = d.dma.transfer(2, data, DmaDirection::ToMemory);
  CHECK(result.transferred == 4);
  CHECK(result.terminal_count);
  CHECK(d.memory.read_value<u32>(GuestPhysAddr(0x1000)) == 0);
}

TEST_CASE("8237: a masked, disabled or wrongly directed channel moves nothing") {
  Dma d;
  auto data = counting(4);
  d.floppy(kSingleWrite, 0x1000, 3);
  CHECK(d.dma.transfer(2, data, DmaDirection::FromMemory).transferred == 0);
  d.out(0x08, 0x04);
  CHECK(d.dma.transfer(2, data, DmaDirection::ToMemory).transferred == 0);
  d.out(0x08, 0x00);
  d.out(0x0a, 0x06);
  CHECK(d.dma.transfer(2, data, DmaDirection::ToMemory).transferred == 0);
  d.out(0x0e, 0x00);  // clear mask register
  d.out(0xd4, 0x04);  // the cascade
  CHECK(d.dma.transfer(2, data, DmaDirection::ToMemory).transferred == 0);
  d.out(0xd4, 0x00);
  CHECK(d.dma.transfer(2, data, DmaDirection::ToMemory).transferred == 4);
}

TEST_CASE("8237: channels 5 to 7 move words over 128 KiB pages") {
  Dma d;
  d.out(0xd8, 0);
  d.out(0xd6, 0x45);  // channel 5, single, write
  d.out(0xc4, 0xff);  // word address FFFFh
  d.out(0xc4, 0xff);
  d.out(0x8b, 0x03);  // page bit 0 is not used
  d.out(0xc6, 0x01);  // two words
  d.out(0xc6, 0x00);
  d.out(0xd4, 0x01);
  auto data = counting(5);
  CHECK(d.dma.remaining(5) == 4);
  const auto result = d.dma.transfer(5, data, DmaDirection::ToMemory);
  CHECK(result.transferred == 4);
  CHECK(result.terminal_count);
  CHECK(d.memory.read_value<u16>(GuestPhysAddr(0x3fffe)) == 0x0201);
  CHECK(d.memory.read_value<u16>(GuestPhysAddr(0x20000)) == 0x0403);
}

TEST_CASE("8237: master clear masks all channels and resets the flip-flop") {
  Dma d;
  d.out(0x04, 0x11);
  d.out(0x0d, 0);
  CHECK((d.in(0x0f) & 0x0f) == 0x0f);
  d.out(0x04, 0x34);
  d.out(0x04, 0x12);
  CHECK(d.word(0x04) == 0x1234);
}

TEST_CASE("8237: DREQ and software requests show in the status register") {
  Dma d;
  d.dma.set_request(2, true);
  d.out(0x09, 0x07);
  CHECK(d.in(0x08) == 0xc0);
  d.dma.set_request(2, false);
  d.out(0x09, 0x03);
  CHECK(d.in(0x08) == 0x00);
}

TEST_CASE("8237: every page register keeps its byte") {
  Dma d;
  for (u16 port = 0x80; port < 0x90; ++port) d.out(port, static_cast<u8>(port));
  for (u16 port = 0x80; port < 0x90; ++port) CHECK(d.in(port) == port);
}
