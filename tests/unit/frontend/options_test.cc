// The command line: what it accepts, and what it says about mistakes.
#include <catch2/catch.hpp>

#include "frontend/option_text.h"
#include "frontend/options.h"

using namespace vellum;

namespace {

constexpr u64 kNow = 1'700'000'000;

Result<std::variant<Options, Information>> parse(std::vector<std::string_view> arguments) {
  return parse_options(arguments, kNow);
}

Options accepted(std::vector<std::string_view> arguments) {
  arguments.push_back("-nographic");
  auto parsed = parse(arguments);
  INFO((parsed ? std::string() : parsed.error().message));
  REQUIRE(parsed);
  return std::get<Options>(*parsed);
}

std::string refused(std::vector<std::string_view> arguments) {
  arguments.push_back("-nographic");
  const auto parsed = parse(arguments);
  return parsed ? "(accepted)" : parsed.error().message;
}

}  // namespace

TEST_CASE("sizes of memory") {
  CHECK(accepted({"-m", "512"}).memory_size == u64{512} << 20);
  CHECK(accepted({"-m", "1G"}).memory_size == u64{1} << 30);
  CHECK(accepted({"-m", "1M"}).memory_size == u64{1} << 20);
  CHECK(accepted({"-m", "64G"}).memory_size == u64{64} << 30);
  CHECK(accepted({"-m", "1.5G"}).memory_size == u64{1536} << 20);
  CHECK(accepted({"-m", "size=2048K"}).memory_size == u64{2} << 20);
  CHECK(accepted({}).memory_size == u64{128} << 20);
  CHECK(refused({"-m", "65G"}) == "-m: '65G' is out of range; memory is 1M to 64G");
  CHECK(refused({"-m", "512k"}) == "-m: '512k' is out of range; memory is 1M to 64G");
  CHECK(refused({"-m", "12X"}) == "-m: '12X' is no size; write a number with an optional suffix K, M, G or T, as in 512M");
  CHECK(refused({"-m", "-5"}) == "-m: '-5' is no size; write a number with an optional suffix K, M, G or T, as in 512M");
  CHECK(refused({"-m", "99999999999999999999G"}).starts_with("-m: '99999999999999999999G' is no size"));
}

TEST_CASE("a mistyped option or value gets the nearest valid name") {
  CHECK(refused({"-kernal", "x"}) == "-kernal: unknown option; did you mean '-kernel'?");
  CHECK(refused({"--cdrm", "x"}) == "--cdrm: unknown option; did you mean '-cdrom'?");
  CHECK(refused({"-clock", "realtme"}) == "-clock: unknown value 'realtme'; did you mean 'realtime'?");
  CHECK(refused({"-machine", "q35x"}) == "-machine: unknown value 'q35x'; valid: pc");
  CHECK(refused({"-drive", "file=a,fromat=raw"}) == "-drive: unknown key 'fromat'; did you mean 'format'?");
  CHECK(refused({"-drive", "file=a,if=idee"}) == "-drive: if: unknown value 'idee'; did you mean 'ide'?");
  CHECK(refused({"-device", "isa-debugexit"}) == "-device: unknown value 'isa-debugexit'; did you mean 'isa-debug-exit'?");
  CHECK(refused({"-serial", "stdoi"}) == "-serial: unknown kind 'stdoi'; did you mean 'stdio'?");
  CHECK(refused({"-d", "int,guest_error"}) == "-d: unknown log item 'guest_error'; did you mean 'guest_errors'?");
  CHECK(refused({"-engine", "jit"}) == "-engine: unknown value 'jit'; valid: interpreter, baseline, llvm, tiered");
}

TEST_CASE("a missing value and a contradiction are refused") {
  const auto missing = parse({"-nographic", "-kernel"});
  REQUIRE_FALSE(missing);
  CHECK(missing.error().message == "-kernel: a value is missing (-kernel FILE)");
  CHECK(refused({"-kernel", ""}) == "-kernel: the name is empty");
  CHECK(refused({"-initrd", "a"}) == "-initrd goes with -kernel only");
  CHECK(refused({"-append", "quiet"}) == "-append goes with -kernel only");
  CHECK(refused({"-hda", "a", "-hda", "b"}) == "-hda: ide drive 0 is taken already by -hda");
  CHECK(refused({"-smp", "2"}) == "-smp: cpus=2: this version has machines with one CPU only; use -smp 1");
  CHECK(refused({"-boot", "order=cx"}) == "-boot: 'x' is no boot device; use a or b (floppy), c (disk), d (CD-ROM), n (network)");
  CHECK(refused({"-boot", "cc"}) == "-boot: 'c' stands twice in order=cc");
  CHECK(refused({"-drive", "if=ide"}) == "-drive: the key 'file' is missing");
  CHECK(refused({"-drive", "file=a,index=4"}) == "-drive: index: 4 is too large; the greatest value is 3");
  CHECK(refused({"-serial", "chardev:x"}) == "-serial chardev:x: there is no -chardev with the id 'x'");
}

TEST_CASE("displays") {
  const auto unsaid = parse({"-hda", "disk.img"});
  REQUIRE(unsaid);
  CHECK(std::get<Options>(*unsaid).default_display);
  CHECK_FALSE(accepted({"-nographic"}).default_display);
  const auto none = accepted({"-display", "none"});
  CHECK_FALSE(none.default_display);
  CHECK(none.displays.empty());
  // Not with accepted(), which adds -nographic: the terminal would have two users.
  const auto parsed = parse({"-display", "sdl,scale=integer,full-screen=on", "-display", "vnc=:1,password=a", "-display", "terminal"});
  REQUIRE(parsed);
  const auto several = std::get<Options>(*parsed);
  REQUIRE(several.displays.size() == 3);
  CHECK(several.displays[0].kind == DisplaySpec::Kind::Sdl);
  CHECK(several.displays[0].scaling == DisplaySpec::Scaling::Integer);
  CHECK(several.displays[0].full_screen);
  CHECK(several.displays[1].kind == DisplaySpec::Kind::Vnc);
  CHECK(several.displays[1].vnc.port == 5901);
  CHECK(several.displays[1].vnc.password == "a");
  CHECK(several.displays[2].kind == DisplaySpec::Kind::Terminal);
  CHECK(refused({"-display", "sld"}) == "-display: unknown value 'sld'; did you mean 'sdl'?");
  CHECK(refused({"-display", "vnc"}) == "-display: vnc needs an address, as in vnc=:0 or vnc=unix:vnc.sock");
  CHECK(refused({"-display", "none,x"}) == "-display: none has no keys");
  CHECK(refused({"-display", "sdl", "-display", "sdl"}) == "-display: one window and one terminal are the most that can be");
  CHECK(refused({"-display", "terminal"}) ==
        "-display terminal: the terminal has another user already (stdio or -nographic); give that a file, a pty or a socket");
}

TEST_CASE("drives take their places") {
  const auto options = accepted({"-drive", "file=a", "-drive", "file=b,media=cdrom", "-drive", "file=c,if=floppy,readonly=on",
                                 "-drive", "file=d,bus=1,unit=1,snapshot=on,format=raw", "-cdrom", "e"});
  REQUIRE(options.drives.size() == 5);
  CHECK(options.drives[0].index == 0);
  CHECK(options.drives[1].index == 1);
  CHECK(options.drives[1].cdrom);
  CHECK(options.drives[1].read_only);
  CHECK(options.drives[2].interface == DriveSpec::Interface::Floppy);
  CHECK(options.drives[2].read_only);
  CHECK(options.drives[3].index == 3);
  CHECK(options.drives[3].snapshot);
  CHECK(options.drives[4].index == 2);
}

TEST_CASE("a file name may hold commas and equal signs") {
  const auto options = accepted({"-drive", "file=/tmp/a,,b=c.img,snapshot=on"});
  CHECK(options.drives[0].file == "/tmp/a,b=c.img");
  CHECK(accepted({"-serial", "unix:/tmp/x=y,server,nowait"}).serial[0].path == "/tmp/x=y");
}

TEST_CASE("USB disks come by -drive if=usb, or as a device with a drive of its own") {
  using Interface = DriveSpec::Interface;
  const auto options = accepted({"-drive", "file=b,if=none,id=stick", "-drive", "if=usb,file=a,readonly=on", "-device", "usb-storage,drive=stick"});
  REQUIRE(options.drives.size() == 2);
  CHECK(options.usb);
  CHECK(options.drives[0].interface == Interface::Usb);
  CHECK(options.drives[0].index == 1);
  CHECK(options.drives[1].index == 0);
  CHECK(options.drives[1].read_only);
  CHECK(accepted({"-device", "usb-storage"}).drives[0].file.empty());
  CHECK(accepted({"-drive", "if=usb"}).drives[0].file.empty());
  CHECK(accepted({"-drive", "if=usb,file=a", "-snapshot"}).drives[0].snapshot);
  CHECK_FALSE(accepted({"-hda", "a"}).usb);
  CHECK(refused({"-drive", "if=none,file=a"}) == "-drive: if=none needs an id, by which a device names the drive");
  CHECK(refused({"-drive", "if=none,file=a,id=x"}) == "-drive: no device takes the drive 'x'; add -device usb-storage,drive=x");
  CHECK(refused({"-drive", "if=none,file=a,id=stick", "-device", "usb-storage,drive=stik"}) ==
        "-device usb-storage: there is no free -drive if=none with the id 'stik'; did you mean 'stick'?");
  CHECK(refused({"-drive", "if=usb", "-drive", "if=usb", "-device", "usb-tablet"}) ==
        "the USB controller has 2 ports, too few for 2 disks and the tablet");
  CHECK(refused({"-drive", "if=usb,media=cdrom"}) == "-drive: media=cdrom goes with if=ide only");
  CHECK(refused({"-drive", "if=usb,index=1"}) == "-drive: index, bus and unit do not go with if=usb and if=none");
}

TEST_CASE("-snapshot concerns every drive that can be written") {
  const auto options = accepted({"-hda", "a", "-snapshot", "-cdrom", "b"});
  CHECK(options.drives[0].snapshot);
  CHECK_FALSE(options.drives[1].snapshot);
}

TEST_CASE("a bare argument is the first disk") { CHECK(accepted({"disk.img"}).drives[0].file == "disk.img"); }

TEST_CASE("-nographic puts serial line and monitor on the terminal, unless they are elsewhere") {
  const auto both = accepted({});
  REQUIRE(both.serial.size() == 1);
  CHECK(both.serial[0].kind == CharacterSpec::Kind::Stdio);
  CHECK(both.serial[0].mux);
  CHECK_FALSE(both.serial[0].signals);
  REQUIRE(both.monitor);
  CHECK(both.monitor->kind == CharacterSpec::Kind::Stdio);

  const auto elsewhere = accepted({"-serial", "stdio", "-monitor", "unix:m.sock,server,nowait"});
  CHECK_FALSE(elsewhere.serial[0].mux);
  CHECK(elsewhere.monitor->kind == CharacterSpec::Kind::Unix);
  CHECK(elsewhere.monitor->server);
  CHECK_FALSE(elsewhere.monitor->wait);

  CHECK_FALSE(accepted({"-serial", "stdio"}).monitor);
  CHECK(accepted({"-serial", "mon:stdio"}).monitor->mux);
}

TEST_CASE("character devices by name") {
  const auto options = accepted({"-chardev", "socket,id=s0,path=/tmp/s,server=on,wait=off", "-serial", "chardev:s0",
                                 "-chardev", "stdio,id=t,mux=on", "-monitor", "chardev:t"});
  REQUIRE(options.chardevs.size() == 2);
  CHECK(options.chardevs[0].backend.server);
  CHECK_FALSE(options.chardevs[0].backend.wait);
  CHECK(options.chardevs[1].backend.mux);
  CHECK_FALSE(options.chardevs[1].backend.signals);
}

TEST_CASE("the real-time clock's base") {
  CHECK(accepted({}).rtc_base == kNow);
  CHECK(accepted({"-rtc", "base=2020-02-29T12:34:56"}).rtc_base == 1582979696);
  CHECK(accepted({"-rtc", "base=1999-12-31"}).rtc_base == 946598400);
  CHECK(accepted({"-clock", "instructions"}).rtc_base == 1735689600);
  CHECK(accepted({"-clock", "instructions", "-rtc", "base=utc"}).rtc_base == kNow);
  CHECK(refused({"-rtc", "base=tomorrow"}) ==
        "-rtc: base=tomorrow is no date; write utc, localtime, or a date such as 2026-01-31T12:00:00");
}

TEST_CASE("isa-debug-exit's port") {
  CHECK(*accepted({"-device", "isa-debug-exit"}).debug_exit_port == 0x501);
  const auto options = accepted({"-device", "isa-debug-exit,iobase=0xf4,iosize=0x04"});
  CHECK(*options.debug_exit_port == 0xf4);
  CHECK(options.debug_exit_size == 4);
}

TEST_CASE("a device's driver may stand behind its other keys") {
  CHECK(accepted({"-device", "iosize=4,driver=isa-debug-exit"}).debug_exit_size == 4);
  CHECK(accepted({"-device", "driver=sb16"}).sb16);
  const auto cards = accepted({"-device", "iobase=0x320,driver=ne2k_isa"}).network.cards;
  REQUIRE(cards.size() == 1);
  CHECK(cards[0].port == 0x320);
  CHECK(refused({"-device", "sb16,driver=e1000"}) == "-device: sb16 has no keys");
  CHECK(refused({"-device", "iobase=1"}).starts_with("-device: unknown value ''"));
}

TEST_CASE("help, version and lists need no machine") {
  for (const auto& arguments : std::vector<std::vector<std::string_view>>{
           {"-help"}, {"--help"}, {"-h"}, {"-version"}, {"-cpu", "help"}, {"-d", "help"}, {"-machine", "help"}, {"-device", "help"}}) {
    CAPTURE(arguments[0]);
    const auto parsed = parse(arguments);
    REQUIRE(parsed);
    CHECK(std::holds_alternative<Information>(*parsed));
  }
  for (const auto name : option_names())
    if (name != "-M" && name != "-h") CHECK(help_text().find(std::string("  ") + std::string(name)) != std::string::npos);
}

TEST_CASE("no line of the help is wider than a terminal") {
  const std::string text = help_text();
  for (usize start = 0; start < text.size();) {
    const usize end = text.find('\n', start);
    CHECK(end - start <= 110);
    start = end + 1;
  }
}
