// The PC board's drives with changeable media: finding one by name, changing and ejecting what is in it.
#include <algorithm>

#include "devices/atapi_cdrom.h"
#include "devices/floppy_82077aa.h"
#include "devices/ide.h"
#include "devices/usb_storage.h"
#include "machine/pc_board.h"

namespace vellum {

std::vector<PcBoard::RemovableDrive> PcBoard::find_removable_drives() {
  std::vector<RemovableDrive> drives;
  for (unsigned i = 0; i < 4; ++i)
    if (auto* cdrom = dynamic_cast<AtapiCdrom*>(m_ide->drive(i / 2, i % 2)))
      drives.push_back({.name = fmt::format("ide{}-{}", i / 2, i % 2), .cdrom = cdrom});
  for (unsigned i = 0; i < Floppy82077aa::kDrives; ++i)
    if (m_floppy->drive_type(i) != FloppyDriveType::None)
      drives.push_back({.name = fmt::format("floppy{}", i), .floppy = i});
  for (usize i = 0; i < m_usb_disks.size(); ++i) drives.push_back({.name = fmt::format("usb{}", i), .usb_disk = m_usb_disks[i]});
  return drives;
}

std::vector<std::string> PcBoard::removable_drives() {
  std::vector<std::string> names;
  for (const auto& drive : find_removable_drives()) names.push_back(drive.name);
  return names;
}

// The names of the options that fill the drives, and QEMU's names (ide1-cd0), will do too.
bool PcBoard::answers_to(const RemovableDrive& drive, std::string_view name) {
  if (name == drive.name) return true;
  if (drive.usb_disk) return false;
  if (drive.cdrom) return name == "cdrom" || name == fmt::format("{}cd{}", drive.name.substr(0, 5), drive.name.back());
  return name == (drive.floppy == 0 ? "fda" : "fdb");
}

Result<PcBoard::RemovableDrive> PcBoard::find_removable_drive(std::string_view name) {
  const auto drives = find_removable_drives();
  for (const auto& drive : drives)
    if (answers_to(drive, name)) return drive;
  std::string names;
  for (const auto& drive : drives) names += fmt::format("{}{}", names.empty() ? "" : ", ", drive.name);
  return failure(fmt::format("'{}' is no drive with a changeable medium; there are: {}", name, names.empty() ? "none" : names));
}

BlockDevice* PcBoard::medium_of(const RemovableDrive& drive) {
  if (drive.usb_disk) return drive.usb_disk->disk().medium();
  return drive.cdrom ? drive.cdrom->medium() : m_floppy->medium(drive.floppy);
}

Result<void> PcBoard::eject_medium_now(std::string_view name, bool force) {
  const auto drive = find_removable_drive(name);
  if (!drive) return std::unexpected(drive.error());
  // What the guest wrote must be safe before the file is let go.
  if (BlockDevice* medium = medium_of(*drive))
    if (auto flushed = medium->flush(); !flushed) return flushed;
  if (drive->usb_disk) {
    if (!drive->usb_disk->disk().eject(force))
      return failure(fmt::format("{}: the guest uses the disk and has locked it; try again when it has let it go, or use -f to pull it out", drive->name));
  } else if (!drive->cdrom) {
    m_floppy->eject(drive->floppy);
  } else if (!drive->cdrom->eject(force)) {
    return failure(fmt::format("{}: the guest has locked the tray. It has been asked to let the disc go; try again when it has, or "
                               "use -f as one would a paper clip",
                               drive->name));
  }
  return {};
}

Result<void> PcBoard::change_medium_now(std::string_view name, ImageOptions image, bool force) {
  const auto drive = find_removable_drive(name);
  if (!drive) return std::unexpected(drive.error());
  if (drive->cdrom) image.read_only = true;
  else if (m_config.snapshot && !image.read_only) image.snapshot = true;
  // The new image is opened first, so that a mistyped name leaves everything as it was. An image that is in the drive
  // already holds its own lock, and has to be let go before.
  const BlockDevice* present = medium_of(*drive);
  const bool again = present && present->path() == image.path;
  if (again)
    if (auto ejected = eject_medium_now(name, force); !ejected) return ejected;
  auto opened = open_image(image);
  if (!opened) return std::unexpected(opened.error());
  // A disk that is of another kind than the drive does not go into it either.
  if (!drive->cdrom && !drive->usb_disk)
    if (auto fits = m_floppy->accepts(drive->floppy, **opened); !fits) return fits;
  if (!again)
    if (auto ejected = eject_medium_now(name, force); !ejected) return ejected;
  if (drive->usb_disk) return drive->usb_disk->disk().insert(std::move(*opened)), Result<void>{};
  if (!drive->cdrom) return m_floppy->insert(drive->floppy, std::move(*opened), false);
  drive->cdrom->insert(std::move(*opened));
  return {};
}

std::string PcBoard::describe_drives() {
  std::string text;
  for (unsigned i = 0; i < 4; ++i)
    if (IdeDrive* drive = m_ide->drive(i / 2, i % 2)) text += fmt::format("ide{}-{}: {}\n", i / 2, i % 2, drive->describe());
  for (unsigned i = 0; i < Floppy82077aa::kDrives; ++i) {
    if (m_floppy->drive_type(i) == FloppyDriveType::None) continue;
    const BlockDevice* medium = m_floppy->medium(i);
    text += fmt::format("floppy{}: {}{}\n", i, medium ? medium->path() : "empty", medium && medium->read_only() ? " (read-only)" : "");
  }
  for (usize i = 0; i < m_usb_disks.size(); ++i) text += fmt::format("usb{}: {}\n", i, m_usb_disks[i]->disk().describe());
  return text.empty() ? "no drives\n" : text;
}

}  // namespace vellum
