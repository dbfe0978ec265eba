// Fuzz target: the bytes are a file given to -kernel: bzImage, multiboot or PVH. The first bytes choose the machine.
#include <cstdlib>

#include "machine/linux_boot.h"
#include "state/log.h"

using namespace vellum;

extern "C" int LLVMFuzzerTestOneInput(const u8* data, usize size) {
  if (size < 3) return 0;
  g_log_mask = 0;
  static auto ram = std::move(*GuestRam::create(1 << 20));
  AddressSpace memory(*ram);
  PortBus ports;
  FwCfg fw_cfg(memory, ports);
  KernelRequest request;
  request.kernel_path = "kernel";
  request.initrd_path = "initrd";
  request.ram_below_4g = u64{data[0]} << 20;
  request.ram_above_4g = u64{data[1] & 3u} << 32;
  if (data[1] & 4) request.initrd.resize(usize{data[2]} << 8);
  if (data[1] & 8) request.command_line = std::string(data[2], 'x') + " vga=ask";
  request.kernel.assign(data + 3, data + size);
  const auto added = add_kernel(fw_cfg, std::move(request));
  if (!added && (added.error().message.empty() || added.error().message.find('\n') != std::string::npos)) abort();
  return 0;
}
