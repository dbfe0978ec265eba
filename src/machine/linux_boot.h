// -kernel, -initrd, -append: recognises the kernel's format and hands it to the firmware through fw_cfg.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "devices/fw_cfg.h"
#include "state/error.h"

namespace vellum {

enum class KernelFormat : u8 { BzImage, Multiboot, Pvh };

struct KernelRequest {
  std::string kernel_path;  // for messages
  std::vector<u8> kernel;
  std::string initrd_path;
  std::vector<u8> initrd;  // multiboot: the first module
  std::string command_line;
  u64 ram_below_4g = 0;
  u64 ram_above_4g = 0;
};

// Which format the image has, or nothing when it is no kernel that Vellum can start.
std::optional<KernelFormat> recognise_kernel(std::span<const u8> image);

// Adds the kernel items and the option ROM genroms/... that starts it, and returns the line for the file `bootorder`
// that makes SeaBIOS start it first. Errors name the file and what is wrong with it.
Result<std::string> add_kernel(FwCfg& fw_cfg, KernelRequest request);

}  // namespace vellum
