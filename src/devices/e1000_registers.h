// Register offsets and bits of the 82540EM, for its parts and its tests.
#pragma once

#include "state/integers.h"

namespace vellum::e1000 {

// Manual, table 13-3.
inline constexpr u32 kControl = 0x0000, kStatus = 0x0008, kEepromControl = 0x0010, kEepromRead = 0x0014, kManagement = 0x0020, kVlanType = 0x0038,
                     kCause = 0x00c0, kThrottle = 0x00c4, kCauseSet = 0x00c8, kMaskSet = 0x00d0, kMaskClear = 0x00d8, kReceiveControl = 0x0100,
                     kTransmitControl = 0x0400, kReceiveRing = 0x2800, kReceiveDelay = 0x2820, kReceiveAbsolute = 0x282c, kSmallPacket = 0x2c00,
                     kTransmitRing = 0x3800, kTransmitDelay = 0x3820, kTransmitAbsolute = 0x382c, kStatistics = 0x4000, kReceiveChecksum = 0x5000,
                     kMulticast = 0x5200, kAddresses = 0x5400, kVlanFilter = 0x5600;
// Of a ring, from its first register.
inline constexpr u32 kRingBase = 0x00, kRingBaseHigh = 0x04, kRingLength = 0x08, kRingHead = 0x10, kRingTail = 0x18, kRingSize = 0x1c;

// CTRL, 13.4.1.
inline constexpr u32 kFullDuplex = 1u << 0, kSetLinkUp = 1u << 6, kSpeed1000 = 2u << 8, kReset = 1u << 26, kVlanMode = 1u << 30, kPhyReset = 1u << 31;
// STATUS, 13.4.2.
inline constexpr u32 kLinkUp = 1u << 1;
// EECD, EERD, 13.4.3 and 13.4.4.
inline constexpr u32 kEepromClock = 1, kEepromSelect = 2, kEepromDataIn = 4, kEepromDataOut = 8, kEepromRequest = 0x40, kEepromGrant = 0x80,
                     kEepromPresent = 0x100;
inline constexpr u32 kEepromStart = 1, kEepromDone = 0x10;
// MDIC, 13.4.7.
inline constexpr u32 kManagementWrite = 1u << 26, kManagementRead = 2u << 26, kManagementReady = 1u << 28, kManagementInterrupt = 1u << 29,
                     kManagementError = 1u << 30;
// ICR and its kin, 13.4.17.
inline constexpr u32 kTransmitWrittenBack = 1u << 0, kTransmitQueueEmpty = 1u << 1, kLinkChange = 1u << 2, kReceiveThreshold = 1u << 4,
                     kReceiveOverrun = 1u << 6, kReceiveTimer = 1u << 7, kManagementDone = 1u << 9, kTransmitLow = 1u << 15, kSmallReceived = 1u << 16,
                     kCauses = 0x1ffdf;
// RCTL, 13.4.22.
inline constexpr u32 kReceiveEnable = 1u << 1, kUnicastPromiscuous = 1u << 3, kMulticastPromiscuous = 1u << 4, kLongPackets = 1u << 5,
                     kLoopback = 3u << 6, kBroadcastAccept = 1u << 15, kBufferTimes16 = 1u << 25, kVlanFilterEnable = 1u << 18,
                     kStripCheck = 1u << 26;
// TCTL, 13.4.33.
inline constexpr u32 kTransmitEnable = 1u << 1, kPadShort = 1u << 3;
// RXCSUM, 13.4.41... the offset that it starts from, and what is checked.
inline constexpr u32 kCheckIp = 1u << 8, kCheckTransport = 1u << 9;
// RAH, 13.5.3.
inline constexpr u32 kAddressValid = 1u << 31;

// Transmit descriptors, 3.3.3 to 3.3.7: bits of the command byte; of the status; of POPTS; the descriptor's type.
inline constexpr u8 kEndOfPacket = 0x01, kInsertChecksum = 0x04, kSegment = 0x04, kReportStatus = 0x08, kExtended = 0x20, kInsertVlan = 0x40,
                    kDelayInterrupt = 0x80;
inline constexpr u8 kContextTcp = 0x01, kContextIpv4 = 0x02;
inline constexpr u8 kDone = 0x01;
inline constexpr u8 kIpChecksum = 0x01, kTransportChecksum = 0x02;
inline constexpr u8 kTypeContext = 0, kTypeData = 1;
// Receive descriptors, 3.2.3: status and errors.
inline constexpr u8 kReceiveEnd = 0x02, kIgnoreChecksum = 0x04, kVlanPacket = 0x08, kTransportChecked = 0x20, kIpChecked = 0x40, kInexact = 0x80;
inline constexpr u8 kTransportError = 0x20, kIpError = 0x40;

// Statistics, table 13-5.
inline constexpr u32 kMissed = 0x4010, kReceived64 = 0x405c, kGoodReceived = 0x4074, kBroadcastsReceived = 0x4078, kMulticastsReceived = 0x407c,
                     kGoodSent = 0x4080, kGoodOctetsReceived = 0x4088, kGoodOctetsSent = 0x4090, kNoBuffer = 0x40a0, kOversize = 0x40ac,
                     kOctetsReceived = 0x40c0, kOctetsSent = 0x40c8, kAllReceived = 0x40d0, kAllSent = 0x40d4, kSent64 = 0x40d8,
                     kMulticastsSent = 0x40f0, kBroadcastsSent = 0x40f4, kSegmented = 0x40f8;

}  // namespace vellum::e1000
