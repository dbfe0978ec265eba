// The USB disk, as Bulk-Only Transport 1.0, SPC-3 and SBC-2 tell a host to use it. Section and table numbers are theirs.
#include <catch2/catch.hpp>

#include <algorithm>

#include "devices/usb_storage.h"
#include "state/log.h"
#include "storage/memory_disk.h"

using namespace vellum;

namespace {

using Kind = UsbAnswer::Kind;
using Bytes = std::vector<u8>;

// What the host sees of one command.
struct Outcome {
  Bytes data;              // that came
  bool stalled = false;    // the data stage ended by STALL
  u8 status = 0xff;        // bCSWStatus
  u32 residue = 0;
};

struct Host {
  static constexpr usize kBlocks = 64;
  MemoryDisk* medium = nullptr;
  UsbStorage device{0, nullptr};
  u32 tag = 0x11223300;

  explicit Host(bool read_only = false) {
    g_log_mask = 0;
    insert(kBlocks, read_only);
    device.reset(ResetKind::PowerOn);
    REQUIRE(control({0, 9, 1, 0, 0, 0, 0, 0}));
    REQUIRE(run({0x00}, 0, false).status == 1);  // the unit attention after power-on
    REQUIRE(run({0x03, 0, 0, 0, 18, 0}, 18, true).status == 0);
  }
  // Byte i of block n is n + i.
  void insert(usize blocks, bool read_only = false) {
    Bytes content(blocks * 512);
    for (usize i = 0; i < content.size(); ++i) content[i] = static_cast<u8>(i / 512 + i % 512);
    auto disk = std::make_unique<MemoryDisk>(std::move(content), read_only);
    medium = disk.get();
    device.disk().insert(std::move(disk));
  }
  bool control(std::array<u8, 8> request) {
    std::array<u8, 64> nothing{};
    REQUIRE(device.transact(UsbToken::Setup, 0, request).kind == Kind::Done);
    return device.transact(UsbToken::In, 0, nothing).kind == Kind::Done;
  }
  std::optional<Bytes> control_in(std::array<u8, 8> request) {
    REQUIRE(device.transact(UsbToken::Setup, 0, request).kind == Kind::Done);
    Bytes data;
    for (;;) {
      std::array<u8, 64> packet{};
      const auto answer = device.transact(UsbToken::In, 0, packet);
      if (answer.kind != Kind::Done) return std::nullopt;
      REQUIRE(answer.length <= packet.size());
      data.insert(data.end(), packet.begin(), packet.begin() + static_cast<std::ptrdiff_t>(answer.length));
      if (answer.length < 64) return data;
    }
  }
  bool clear_halt(u8 endpoint) { return control({0x02, 1, 0, 0, endpoint, 0, 0, 0}); }
  bool halted(u8 endpoint) { return control_in({0x82, 0, 0, 0, endpoint, 0, 2, 0}) == Bytes{1, 0}; }
  UsbAnswer out(Bytes data) { return device.transact(UsbToken::Out, 2, data); }
  UsbAnswer in(Bytes& data, usize room = 64) {
    data.assign(room, 0);
    const auto answer = device.transact(UsbToken::In, 1, data);
    if (answer.kind == Kind::Done) data.resize(std::min(answer.length, room));
    return answer;
  }
  // Table 5.1.
  Bytes wrapper(const Bytes& command, u32 length, bool to_host, u8 unit = 0) {
    ++tag;
    Bytes data = {0x55, 0x53, 0x42, 0x43};
    for (const u32 value : {tag, length})
      for (unsigned i = 0; i < 4; ++i) data.push_back(static_cast<u8>(value >> (8 * i)));
    data.insert(data.end(), {static_cast<u8>(to_host ? 0x80 : 0), unit, static_cast<u8>(command.size())});
    data.insert(data.end(), command.begin(), command.end());
    data.resize(31);
    return data;
  }
  // Figure 2: the status, with a second try behind STALL.
  void fetch_status(Outcome& outcome) {
    Bytes data;
    auto answer = in(data, 13);
    if (answer.kind == Kind::Stall) {
      REQUIRE(clear_halt(0x81));
      answer = in(data, 13);
    }
    REQUIRE(answer.kind == Kind::Done);
    REQUIRE(answer.length == 13);
    const auto field = [&data](usize at) { return data[at] | data[at + 1] << 8 | data[at + 2] << 16 | u32{data[at + 3]} << 24; };
    CHECK(field(0) == 0x53425355);
    CHECK(field(4) == tag);
    outcome.residue = field(8);
    outcome.status = data[12];
  }
  // A whole command; `data` is what the host sends, when it sends.
  Outcome run(const Bytes& command, u32 length, bool to_host, Bytes data = {}) {
    Outcome outcome;
    REQUIRE(out(wrapper(command, length, to_host)).kind == Kind::Done);
    if (to_host) {
      while (outcome.data.size() < length) {
        Bytes packet;
        const auto answer = in(packet, std::min<usize>(64, length - outcome.data.size()));
        if (answer.kind == Kind::Stall) {
          outcome.stalled = true;
          REQUIRE(clear_halt(0x81));
          break;
        }
        REQUIRE(answer.kind == Kind::Done);
        outcome.data.insert(outcome.data.end(), packet.begin(), packet.end());
        if (packet.size() < 64) break;
      }
    } else {
      data.resize(length);
      for (usize at = 0; at < length; at += 64) {
        const auto first = data.begin() + static_cast<std::ptrdiff_t>(at);
        const auto answer = out(Bytes(first, first + static_cast<std::ptrdiff_t>(std::min<usize>(64, length - at))));
        if (answer.kind == Kind::Stall) {
          outcome.stalled = true;
          REQUIRE(clear_halt(0x02));
          break;
        }
        REQUIRE(answer.kind == Kind::Done);
      }
    }
    fetch_status(outcome);
    return outcome;
  }
  // Sense key, additional sense code and qualifier.
  std::array<u8, 3> sense() {
    const auto outcome = run({0x03, 0, 0, 0, 18, 0}, 18, true);
    REQUIRE(outcome.data.size() == 18);
    CHECK((outcome.data[0] & 0x7f) == 0x70);
    return {outcome.data[2], outcome.data[12], outcome.data[13]};
  }
  std::array<u8, 3> fails(const Bytes& command, u32 length = 0, bool to_host = true) {
    CHECK(run(command, length, to_host).status == 1);
    return sense();
  }
};

using Sense = std::array<u8, 3>;

Bytes block(unsigned number) {
  Bytes data(512);
  for (unsigned i = 0; i < 512; ++i) data[i] = static_cast<u8>(number + i);
  return data;
}

const Bytes kReadFive = {0x28, 0, 0, 0, 0, 5, 0, 0, 1, 0};
const Bytes kWriteFive = {0x2a, 0, 0, 0, 0, 5, 0, 0, 1, 0};

}  // namespace

TEST_CASE("a USB disk's descriptors name mass storage, SCSI, Bulk-Only and two bulk endpoints (4.1 to 4.4)") {
  Host h;
  const auto device = h.control_in({0x80, 6, 0, 1, 0, 0, 18, 0});
  REQUIRE(device);
  REQUIRE(device->size() == 18);
  CHECK((*device)[4] == 0);  // the class is the interface's
  const auto data = h.control_in({0x80, 6, 0, 2, 0, 0, 255, 0});
  REQUIRE(data);
  REQUIRE(data->size() == 32);
  CHECK(Bytes(data->begin() + 9 + 4, data->begin() + 9 + 8) == Bytes{2, 0x08, 0x06, 0x50});
  CHECK(Bytes(data->begin() + 18, data->begin() + 25) == Bytes{7, 5, 0x81, 2, 64, 0, 0});
  CHECK(Bytes(data->begin() + 25, data->begin() + 32) == Bytes{7, 5, 0x02, 2, 64, 0, 0});
  // 4.1.1: a serial number of at least twelve digits, 0 to 9 and A to F.
  const auto serial = h.control_in({0x80, 6, (*device)[16], 3, 9, 4, 255, 0});
  REQUIRE(serial);
  REQUIRE(serial->size() >= 2 + 2 * 12);
  for (usize i = 2; i < serial->size(); i += 2) CHECK((std::isdigit((*serial)[i]) || ((*serial)[i] >= 'A' && (*serial)[i] <= 'F')));
}

TEST_CASE("Get Max LUN says that there is one unit; its other forms are stalled (3.2)") {
  Host h;
  CHECK(h.control_in({0xa1, 0xfe, 0, 0, 0, 0, 1, 0}) == Bytes{0});
  CHECK_FALSE(h.control_in({0xa1, 0xfe, 1, 0, 0, 0, 1, 0}));
  CHECK_FALSE(h.control_in({0xa1, 0xfe, 0, 0, 1, 0, 1, 0}));
}

TEST_CASE("a request that sends nothing back is stalled when it is made with the direction to the host (USB 1.1 table 9-3)") {
  Host h;
  CHECK_FALSE(h.control_in({0x80, 9, 1, 0, 0, 0, 0, 16}));  // SET_CONFIGURATION with 4096 bytes of data
  CHECK_FALSE(h.control_in({0xa1, 0xff, 0, 0, 0, 0, 0, 16}));
}

TEST_CASE("cases 1, 6 and 12: host and device agree (6.7)") {
  Host h;
  const auto ready = h.run({0x00}, 0, false);
  CHECK(ready.status == 0);
  CHECK(ready.residue == 0);
  const auto read = h.run(kReadFive, 512, true);
  CHECK(read.data == block(5));
  CHECK(read.status == 0);
  CHECK(read.residue == 0);
  CHECK_FALSE(read.stalled);
  const auto write = h.run(kWriteFive, 512, false, Bytes(512, 0xa5));
  CHECK(write.status == 0);
  CHECK(write.residue == 0);
  CHECK(std::ranges::equal(std::span(h.medium->data()).subspan(5 * 512, 512), Bytes(512, 0xa5)));
}

TEST_CASE("cases 2 and 3: data without room for them are a phase error, and the disk is not written to (6.7.1)") {
  Host h;
  CHECK(h.run(kReadFive, 0, true).status == 2);
  CHECK(h.run(kWriteFive, 0, false).status == 2);
  CHECK(std::ranges::equal(std::span(h.medium->data()).subspan(5 * 512, 512), block(5)));
  CHECK(h.run({0x00}, 0, false).status == 0);
}

TEST_CASE("cases 4 and 5: a host that wants more gets what there is, STALL, and the residue (6.7.2)") {
  Host h;
  const auto none = h.run({0x00}, 100, true);
  CHECK(none.stalled);
  CHECK(none.data.empty());
  CHECK(none.status == 0);
  CHECK(none.residue == 100);
  CHECK(h.run(kReadFive, 600, true).residue == 88);
  const auto more = h.run(kReadFive, 1024, true);  // a whole number of packets: only STALL can end it
  CHECK(more.stalled);
  CHECK(more.data == block(5));
  CHECK(more.status == 0);
  CHECK(more.residue == 512);
  const auto inquiry = h.run({0x12, 0, 0, 0, 255, 0}, 255, true);
  CHECK(inquiry.data.size() == 36);
  CHECK(inquiry.status == 0);
  CHECK(inquiry.residue == 219);
}

TEST_CASE("case 4: a command that fails says so behind the STALL") {
  Host h;
  const auto outcome = h.run({0x28, 0, 0, 0, 0, 64, 0, 0, 1, 0}, 512, true);
  CHECK(outcome.stalled);
  CHECK(outcome.status == 1);
  CHECK(outcome.residue == 512);
  CHECK(h.sense() == Sense{5, 0x21, 0});
}

TEST_CASE("cases 7 and 8: a host that wants less, or the other direction, gets a phase error (6.7.2)") {
  Host h;
  const auto less = h.run({0x28, 0, 0, 0, 0, 5, 0, 0, 2, 0}, 512, true);
  CHECK(less.data == block(5));
  CHECK(less.status == 2);
  const auto other = h.run(kWriteFive, 512, true);
  CHECK(other.stalled);
  CHECK(other.data.empty());
  CHECK(other.status == 2);
  CHECK(std::ranges::equal(std::span(h.medium->data()).subspan(5 * 512, 512), block(5)));
}

TEST_CASE("cases 9 and 11: what the device does not want is accepted and left over (6.7.3)") {
  Host h;
  const auto none = h.run({0x00}, 200, false);
  CHECK(none.status == 0);
  CHECK(none.residue == 200);
  const auto more = h.run(kWriteFive, 1024, false, Bytes(1024, 0x5a));
  CHECK(more.status == 0);
  CHECK(more.residue == 512);
  CHECK(std::ranges::equal(std::span(h.medium->data()).subspan(5 * 512, 512), Bytes(512, 0x5a)));
  CHECK(std::ranges::equal(std::span(h.medium->data()).subspan(6 * 512, 512), block(6)));
}

TEST_CASE("cases 10 and 13: the other direction, or less than the device wants, is a phase error (6.7.3)") {
  Host h;
  const auto other = h.run(kReadFive, 512, false);
  CHECK(other.stalled);
  CHECK(other.status == 2);
  const auto less = h.run({0x2a, 0, 0, 0, 0, 5, 0, 0, 2, 0}, 512, false, Bytes(512, 1));
  CHECK(less.stalled);
  CHECK(less.status == 2);
  CHECK(std::ranges::equal(std::span(h.medium->data()).subspan(5 * 512, 512), block(5)));
}

TEST_CASE("what is no wrapper halts both endpoints until reset recovery (6.6.1, 5.3.4)") {
  Host h;
  auto wrong = h.wrapper({0x00}, 0, false);
  const auto kind = GENERATE(0, 1, 2, 3, 4, 5);
  CAPTURE(kind);
  switch (kind) {
    case 0: wrong.push_back(0); break;   // another length
    case 1: wrong.pop_back(); break;
    case 2: wrong[0] = 0; break;         // no signature
    case 3: wrong[12] = 1; break;        // a reserved bit
    case 4: wrong[13] = 1; break;        // no such unit
    default: wrong[14] = 17; break;      // a command of 17 bytes
  }
  h.out(wrong);
  Bytes data;
  CHECK(h.in(data).kind == Kind::Stall);
  CHECK(h.out(h.wrapper({0x00}, 0, false)).kind == Kind::Stall);
  CHECK(h.halted(0x81));
  CHECK(h.halted(0x02));
  // Without the reset, clearing the halts does not help.
  h.clear_halt(0x81);
  h.clear_halt(0x02);
  CHECK(h.in(data).kind == Kind::Stall);
  CHECK(h.out(h.wrapper({0x00}, 0, false)).kind == Kind::Stall);
  // Nor does the reset alone: it leaves the halts (3.1).
  CHECK(h.control({0x21, 0xff, 0, 0, 0, 0, 0, 0}));
  CHECK(h.in(data).kind == Kind::Stall);
  CHECK(h.clear_halt(0x81));
  CHECK(h.clear_halt(0x02));
  CHECK_FALSE(h.halted(0x81));
  CHECK(h.run({0x00}, 0, false).status == 0);
}

TEST_CASE("a Bulk-Only reset in the middle of data makes the device ready for a command (3.1)") {
  Host h;
  h.out(h.wrapper(kReadFive, 512, true));
  Bytes data;
  CHECK(h.in(data).kind == Kind::Done);
  CHECK(h.control({0x21, 0xff, 0, 0, 0, 0, 0, 0}));
  CHECK(h.run(kReadFive, 512, true).data == block(5));
}

TEST_CASE("a halt that the host sets lasts until it clears it (USB 1.1, 9.4.5)") {
  Host h;
  CHECK(h.control({0x02, 3, 0, 0, 0x02, 0, 0, 0}));
  CHECK(h.halted(0x02));
  CHECK(h.out(h.wrapper({0x00}, 0, false)).kind == Kind::Stall);
  CHECK(h.clear_halt(0x02));
  CHECK(h.run({0x00}, 0, false).status == 0);
  CHECK_FALSE(h.control({0x02, 3, 0, 0, 0x03, 0, 0, 0}));  // no such endpoint
}

TEST_CASE("a host without room for a packet gets it again, the status too") {
  Host h;
  h.out(h.wrapper(kReadFive, 512, true));
  Bytes data;
  CHECK(h.in(data, 10).length == 64);  // babble
  Bytes all;
  while (all.size() < 512) {
    REQUIRE(h.in(data).kind == Kind::Done);
    all.insert(all.end(), data.begin(), data.end());
  }
  CHECK(all == block(5));
  CHECK(h.in(data, 12).length == 13);
  CHECK(h.in(data, 13).length == 13);
  CHECK(data[12] == 0);
}

TEST_CASE("INQUIRY: direct access, removable, and its pages of product data (SPC-3 6.4, 7.6)") {
  Host h;
  const auto data = h.run({0x12, 0, 0, 0, 36, 0}, 36, true).data;
  REQUIRE(data.size() == 36);
  CHECK(data[0] == 0x00);
  CHECK(data[1] == 0x80);
  CHECK((data[3] & 0xf) == 2);
  CHECK(data[4] == 31);
  const auto pages = h.run({0x12, 1, 0, 0, 64, 0}, 64, true).data;
  REQUIRE(pages.size() >= 5);
  CHECK(pages[3] == pages.size() - 4);
  for (usize i = 4; i < pages.size(); ++i) {
    const auto page = h.run({0x12, 1, pages[i], 0, 255, 0}, 255, true).data;
    REQUIRE(page.size() >= 4);
    CHECK(page[1] == pages[i]);
    CHECK(page[3] == page.size() - 4);
  }
  CHECK(h.fails({0x12, 1, 0x99, 0, 64, 0}, 64) == Sense{5, 0x24, 0});
  CHECK(h.fails({0x12, 0, 0x80, 0, 64, 0}, 64) == Sense{5, 0x24, 0});
}

TEST_CASE("capacity: the last block and the block's length (SBC-2 5.10, 5.11, MMC-3 6.24)") {
  Host h;
  CHECK(h.run({0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0}, 8, true).data == Bytes{0, 0, 0, 63, 0, 0, 2, 0});
  const auto sixteen = h.run({0x9e, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 32, 0, 0}, 32, true).data;
  REQUIRE(sixteen.size() == 32);
  CHECK(Bytes(sixteen.begin(), sixteen.begin() + 12) == Bytes{0, 0, 0, 0, 0, 0, 0, 63, 0, 0, 2, 0});
  CHECK(h.run({0x23, 0, 0, 0, 0, 0, 0, 0, 12, 0}, 12, true).data == Bytes{0, 0, 0, 8, 0, 0, 0, 64, 2, 0, 2, 0});
  CHECK(h.fails({0x25, 0, 0, 0, 0, 1, 0, 0, 0, 0}, 8) == Sense{5, 0x24, 0});
}

TEST_CASE("READ and WRITE of each length of command (SBC-2 5.5 to 5.8, 5.24 to 5.27)") {
  Host h;
  const auto bytes = GENERATE(6, 10, 12, 16);
  CAPTURE(bytes);
  const Bytes read = bytes == 6    ? Bytes{0x08, 0, 0, 7, 2, 0}
                     : bytes == 10 ? Bytes{0x28, 0, 0, 0, 0, 7, 0, 0, 2, 0}
                     : bytes == 12 ? Bytes{0xa8, 0, 0, 0, 0, 7, 0, 0, 0, 2, 0, 0}
                                   : Bytes{0x88, 0, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 2, 0, 0};
  Bytes expected = block(7), second = block(8);
  expected.insert(expected.end(), second.begin(), second.end());
  CHECK(h.run(read, 1024, true).data == expected);
  Bytes write = read;
  write[0] += 2;
  std::ranges::reverse(expected);
  CHECK(h.run(write, 1024, false, expected).status == 0);
  CHECK(h.run(read, 1024, true).data == expected);
  CHECK(std::ranges::equal(std::span(h.medium->data()).subspan(6 * 512, 512), block(6)));
  CHECK(std::ranges::equal(std::span(h.medium->data()).subspan(9 * 512, 512), block(9)));
}

TEST_CASE("a length of zero moves nothing, but 256 blocks in a six-byte command (SBC-2 5.5, 5.6)") {
  Host h;
  CHECK(h.run({0x28, 0, 0, 0, 0, 7, 0, 0, 0, 0}, 0, true).status == 0);
  h.insert(300);
  h.fails({0x00});
  CHECK(h.run({0x08, 0, 0, 7, 0, 0}, 256 * 512, true).data.size() == 256 * 512);
}

TEST_CASE("blocks behind the end are out of range, wherever the command begins") {
  Host h;
  const Bytes commands[] = {{0x28, 0, 0, 0, 0, 63, 0, 0, 2, 0},
                            {0x2a, 0, 0xff, 0xff, 0xff, 0xff, 0, 0xff, 0xff, 0},
                            {0x88, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0},
                            {0x35, 0, 0, 0, 0, 65, 0, 0, 0, 0},
                            {0x2f, 0, 0, 0, 0, 60, 0, 0, 5, 0}};
  for (const Bytes& command : commands) {
    CAPTURE(static_cast<int>(command[0]));
    CHECK(h.fails(command) == Sense{5, 0x21, 0});
  }
}

TEST_CASE("a command that is none of a disk's is invalid (SPC-3 table 28)") {
  Host h;
  CHECK(h.fails({0x43, 0, 0, 0, 0, 0, 0, 0, 12, 0}, 12) == Sense{5, 0x20, 0});
}

TEST_CASE("a new medium is a unit attention, told once by sense data (SAM-3 5.9.7)") {
  Host h;
  h.insert(100);
  const auto inquiry = h.run({0x12, 0, 0, 0, 36, 0}, 36, true);
  CHECK(inquiry.status == 0);  // does not take it away
  CHECK(h.fails({0x00}) == Sense{6, 0x28, 0});
  CHECK(h.sense() == Sense{0, 0, 0});
  CHECK(h.run({0x00}, 0, false).status == 0);
  CHECK(h.run({0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0}, 8, true).data == Bytes{0, 0, 0, 99, 0, 0, 2, 0});
  h.insert(64);
  CHECK(h.sense() == Sense{6, 0x28, 0});  // REQUEST SENSE tells it too
  CHECK(h.run({0x00}, 0, false).status == 0);
}

TEST_CASE("an empty drive is not ready: medium not present (SPC-3 table 28)") {
  Host h;
  CHECK(h.device.disk().eject(false));
  for (const Bytes& command : {Bytes{0x00}, Bytes{0x25}, kReadFive, kWriteFive, Bytes{0x35}, Bytes{0x2f, 0, 0, 0, 0, 0, 0, 0, 1, 0}}) {
    CAPTURE(static_cast<int>(command[0]));
    CHECK(h.fails(command) == Sense{2, 0x3a, 0});
  }
  CHECK(h.run({0x12, 0, 0, 0, 36, 0}, 36, true).status == 0);
  CHECK(h.run({0x1a, 0, 0x3f, 0, 192, 0}, 192, true).status == 0);
  // Descriptor code 3: no medium.
  const auto formats = h.run({0x23, 0, 0, 0, 0, 0, 0, 0, 12, 0}, 12, true).data;
  REQUIRE(formats.size() == 12);
  CHECK(formats[8] == 3);
}

TEST_CASE("a locked drive keeps its medium, from the guest's eject and the user's, but not from force (SBC-2 5.4, 5.17)") {
  Host h;
  CHECK(h.run({0x1e, 0, 0, 0, 1, 0}, 0, false).status == 0);
  CHECK(h.fails({0x1b, 0, 0, 0, 2, 0}) == Sense{5, 0x53, 2});
  CHECK_FALSE(h.device.disk().eject(false));
  CHECK(h.run({0x00}, 0, false).status == 0);
  CHECK(h.run({0x1e, 0, 0, 0, 0, 0}, 0, false).status == 0);
  CHECK(h.run({0x1b, 0, 0, 0, 2, 0}, 0, false).status == 0);
  CHECK(h.medium->flushes() > 0);
  CHECK(h.fails({0x00}) == Sense{2, 0x3a, 0});
  // The guest takes it in again.
  CHECK(h.run({0x1b, 0, 0, 0, 3, 0}, 0, false).status == 0);
  CHECK(h.fails({0x00}) == Sense{6, 0x28, 0});
  CHECK(h.run({0x00}, 0, false).status == 0);
  CHECK(h.run({0x1e, 0, 0, 0, 1, 0}, 0, false).status == 0);
  CHECK(h.device.disk().eject(true));
  CHECK(h.fails({0x00}) == Sense{2, 0x3a, 0});
}

TEST_CASE("a stopped disk has to be started (SBC-2 5.17)") {
  Host h;
  CHECK(h.run({0x1b, 0, 0, 0, 0, 0}, 0, false).status == 0);
  CHECK(h.fails({0x00}) == Sense{2, 0x04, 2});
  CHECK(h.run({0x1b, 0, 0, 0, 1, 0}, 0, false).status == 0);
  CHECK(h.run({0x00}, 0, false).status == 0);
}

TEST_CASE("a write-protected medium says so, and is not written to (SBC-2 6.3.1)") {
  Host h(true);
  CHECK((h.run({0x1a, 0, 0x3f, 0, 192, 0}, 192, true).data.at(2) & 0x80) != 0);
  CHECK(h.fails(kWriteFive, 512, false) == Sense{7, 0x27, 0});
  CHECK(std::ranges::equal(std::span(h.medium->data()).subspan(5 * 512, 512), block(5)));
  h.insert(64);
  h.fails({0x00});
  CHECK((h.run({0x1a, 0, 0x3f, 0, 192, 0}, 192, true).data.at(2) & 0x80) == 0);
}

TEST_CASE("MODE SENSE counts what it sends, in both forms; pages that there are not are refused (SPC-3 6.9, 6.10)") {
  Host h;
  const auto six = h.run({0x1a, 0, 0x3f, 0, 255, 0}, 255, true).data;
  REQUIRE(six.size() > 12);
  CHECK(six[0] == six.size() - 1);
  CHECK(six[3] == 8);
  CHECK(Bytes(six.begin() + 4, six.begin() + 12) == Bytes{0, 0, 0, 64, 0, 0, 2, 0});
  const auto ten = h.run({0x5a, 8, 0x3f, 0, 0, 0, 0, 0, 255, 0}, 255, true).data;
  REQUIRE(ten.size() == six.size() - 12 + 8);
  CHECK(ten[1] == ten.size() - 2);
  CHECK(std::equal(six.begin() + 12, six.end(), ten.begin() + 8));
  const auto caching = h.run({0x1a, 8, 0x08, 0, 255, 0}, 255, true).data;
  REQUIRE(caching.size() == 4 + 20);
  CHECK((caching[6] & 0x04) != 0);  // WCE: SYNCHRONIZE CACHE matters
  CHECK(h.fails({0x1a, 8, 0x2a, 0, 255, 0}, 255) == Sense{5, 0x24, 0});
  CHECK(h.fails({0x1a, 8, 0xc8, 0, 255, 0}, 255) == Sense{5, 0x39, 0});
}

TEST_CASE("SYNCHRONIZE CACHE and a write with FUA reach the medium (SBC-2 5.18, 5.25)") {
  Host h;
  CHECK(h.run(kWriteFive, 512, false).status == 0);
  CHECK(h.medium->flushes() == 0);
  CHECK(h.run({0x35, 0, 0, 0, 0, 0, 0, 0, 0, 0}, 0, false).status == 0);
  CHECK(h.medium->flushes() == 1);
  Bytes forced = kWriteFive;
  forced[1] = 0x08;
  CHECK(h.run(forced, 512, false).status == 0);
  CHECK(h.medium->flushes() == 2);
}

TEST_CASE("VERIFY compares what it is given (SBC-2 5.20)") {
  Host h;
  CHECK(h.run({0x2f, 0, 0, 0, 0, 5, 0, 0, 2, 0}, 0, false).status == 0);
  CHECK(h.run({0x2f, 2, 0, 0, 0, 5, 0, 0, 1, 0}, 512, false, block(5)).status == 0);
  CHECK(h.run({0x2f, 2, 0, 0, 0, 5, 0, 0, 1, 0}, 512, false, block(6)).status == 1);
  CHECK(h.sense() == Sense{0x0e, 0x1d, 0});
}

TEST_CASE("REPORT LUNS lists unit 0, and wants room for it (SPC-3 6.21)") {
  Host h;
  CHECK(h.run({0xa0, 0, 0, 0, 0, 0, 0, 0, 0, 16, 0, 0}, 16, true).data == Bytes{0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0});
  CHECK(h.fails({0xa0, 0, 0, 0, 0, 0, 0, 0, 0, 15, 0, 0}, 15) == Sense{5, 0x24, 0});
}

TEST_CASE("a medium that is pulled out while it is read ends the data with STALL and a failed command") {
  Host h;
  h.out(h.wrapper({0x28, 0, 0, 0, 0, 0, 0, 0, 4, 0}, 2048, true));
  Bytes data;
  CHECK(h.in(data).kind == Kind::Done);
  CHECK(h.device.disk().eject(true));
  CHECK(h.in(data).kind == Kind::Stall);
  Outcome outcome;
  h.fetch_status(outcome);
  CHECK(outcome.status == 1);
  CHECK(outcome.residue == 2048 - 64);
  CHECK(h.sense() == Sense{2, 0x3a, 0});
}

TEST_CASE("a bus reset takes away the lock and is a unit attention (SPC-3 table 28)") {
  Host h;
  CHECK(h.run({0x1e, 0, 0, 0, 1, 0}, 0, false).status == 0);
  h.device.bus_reset();
  Bytes data;
  CHECK(h.in(data).kind == Kind::Silence);  // no configuration
  CHECK(h.control({0, 9, 1, 0, 0, 0, 0, 0}));
  CHECK(h.fails({0x00}) == Sense{6, 0x29, 0});
  CHECK(h.device.disk().eject(false));
}
