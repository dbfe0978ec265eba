// The 2352 bytes of a CD-ROM mode 1 sector around its 2048 bytes of user data (ECMA-130).
#pragma once

#include <span>

#include "state/integers.h"

namespace vellum {

// Parts of a frame in READ CD's byte 9 (MMC-3 table 247); mode 1 frames have no sub-header.
enum CdFramePart : u8 { kCdSync = 0x80, kCdHeader = 0x20, kCdUserData = 0x10, kCdCorrection = 0x08 };

inline constexpr u32 kCdUserDataSize = 2048, kCdFrameSize = 2352;

struct CdTime {
  u8 minute, second, frame;
};
// The absolute time of a logical block: block 0 stands at 00:02:00.
CdTime cd_time(u32 logical_block);

// Bytes of one frame with these parts.
u32 cd_frame_length(u8 parts);
// Completes a whole frame whose user data already stands at byte 16: sync, header, EDC, and both ECC planes.
void complete_cd_frame(std::span<u8, kCdFrameSize> frame, u32 logical_block);
// Moves the wanted parts of a completed frame to its start; returns cd_frame_length(parts).
u32 select_cd_parts(std::span<u8, kCdFrameSize> frame, u8 parts);

}  // namespace vellum
