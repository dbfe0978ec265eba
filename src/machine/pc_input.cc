// The PC board's ways in from outside: keys, pointers, buttons, lines and media, as ports of the input journal.
#include <algorithm>
#include <cstring>

#include "devices/atapi_cdrom.h"
#include "devices/ata_disk.h"
#include "devices/floppy_82077aa.h"
#include "devices/ide.h"
#include "devices/piix4_pm.h"
#include "devices/ps2_keyboard.h"
#include "devices/ps2_mouse.h"
#include "devices/usb_storage.h"
#include "devices/usb_tablet.h"
#include "machine/pc_board.h"
#include "storage/fingerprint.h"

namespace vellum {

namespace {

// Pieces of input as they stand in a recording; a piece of another size is none of ours and does nothing.
struct KeyPiece {
  KeyCode code;
  u8 down;
};
struct PointerPiece {
  i32 x, y;  // counts to move by, or the place
  i32 wheel;
  u32 buttons;
};
// Of a drive's name, an image's path, format and fingerprint, each with a zero byte behind it.
constexpr usize kMediumTexts = 4;

template <class Piece>
std::span<const u8> bytes_of(const Piece& piece) {
  return {reinterpret_cast<const u8*>(&piece), sizeof(piece)};
}

template <class Piece>
bool read_piece(std::span<const u8> data, Piece& piece) {
  if (data.size() != sizeof(piece)) return false;
  std::memcpy(&piece, data.data(), sizeof(piece));
  return true;
}

}  // namespace

// To change a medium, or to take it out when there is no path.
struct PcBoard::MediumRequest {
  std::string drive;
  ImageOptions image;
  std::string fingerprint;
  bool force = false;

  std::vector<u8> piece() const {
    std::vector<u8> data{static_cast<u8>((force ? 1 : 0) | (image.read_only ? 2 : 0) | (image.snapshot ? 4 : 0))};
    for (const std::string* text : {&drive, &image.path, &image.format, &fingerprint}) data.insert(data.end(), text->c_str(), text->c_str() + text->size() + 1);
    return data;
  }
  static std::optional<MediumRequest> of(std::span<const u8> data) {
    if (data.size() < 1 + kMediumTexts || data.back() != 0 || static_cast<usize>(std::ranges::count(data.subspan(1), 0)) != kMediumTexts) return std::nullopt;
    MediumRequest request;
    request.force = data[0] & 1;
    request.image.read_only = data[0] & 2;
    request.image.snapshot = data[0] & 4;
    const char* text = reinterpret_cast<const char*>(data.data()) + 1;
    for (std::string* into : {&request.drive, &request.image.path, &request.image.format, &request.fingerprint}) text += (*into = text).size() + 1;
    return request;
  }
};

void PcBoard::add_input_ports() {
  InputJournal& inputs = m_machine.inputs();
  m_power_button = &inputs.add_port("power button", [this](std::span<const u8>) { m_power->press_power_button(); });
  m_keys = &inputs.add_port("keyboard", [this](std::span<const u8> data) {
    if (KeyPiece piece; read_piece(data, piece)) m_keyboard->key(piece.code, piece.down != 0);
  });
  m_typed_keys = std::make_unique<TypedKeys>(
      m_machine.clock(), [this] { return m_keys->waiting() == 0 && m_keyboard->has_room(); },
      [this](KeyCode code, bool down) { m_keys->submit(bytes_of(KeyPiece{code, down})); });
  m_pointer = &inputs.add_port("mouse", [this](std::span<const u8> data) {
    if (PointerPiece piece; read_piece(data, piece)) m_mouse->move(piece.x, piece.y, piece.wheel, static_cast<u8>(piece.buttons));
  });
  if (m_tablet)
    m_tablet_pointer = &inputs.add_port("tablet", [this](std::span<const u8> data) {
      if (PointerPiece piece; read_piece(data, piece))
        m_tablet->place(static_cast<u16>(piece.x & 0x7fff), static_cast<u16>(piece.y & 0x7fff), piece.wheel, static_cast<u8>(piece.buttons));
    });
  m_media_port = &inputs.add_port("media", [this](std::span<const u8> data) {
    const auto request = MediumRequest::of(data);
    if (!request) return;
    m_media_result = serve_medium(*request);
    // What went wrong then went wrong again, or this image is not there any more: the guest would see another medium.
    if (!m_media_result && m_machine.inputs().plays_file()) m_machine.fail_replay(m_media_result.error().message);
  });
}

CharacterBackend* PcBoard::journaled(const std::string& name, CharacterBackend* host) {
  if (!host) return nullptr;
  return m_lines.emplace_back(std::make_unique<JournaledLine>(m_machine.inputs(), name, *host)).get();
}

void PcBoard::press_power_button() { m_power_button->submit({}); }

void PcBoard::key(KeyCode code, bool down) { m_typed_keys->key(code, down); }

void PcBoard::move_pointer(int dx, int dy, int wheel, u8 buttons) { m_pointer->submit(bytes_of(PointerPiece{dx, dy, wheel, buttons})); }

bool PcBoard::pointer_is_absolute() const { return m_tablet && m_tablet->listened_to(); }

void PcBoard::place_pointer(u16 x, u16 y, int wheel, u8 buttons) {
  if (m_tablet) m_tablet_pointer->submit(bytes_of(PointerPiece{x, y, wheel, buttons}));
}

Result<void> PcBoard::serve_medium(const MediumRequest& request) {
  if (request.image.path.empty()) return eject_medium_now(request.drive, request.force);
  if (m_machine.inputs().plays_file()) {
    ImageOptions look = request.image;
    look.read_only = true;  // another drive may have the image, as when it was recorded
    auto opened = open_image(look);
    if (!opened) return std::unexpected(opened.error());
    const auto fingerprint = medium_fingerprint(**opened);
    if (!fingerprint) return std::unexpected(fingerprint.error());
    if (*fingerprint != request.fingerprint)
      return failure(fmt::format("{} is not the image that was recorded: it has {}, and had {}", request.image.path, *fingerprint, request.fingerprint));
  }
  return change_medium_now(request.drive, request.image, request.force);
}

Result<void> PcBoard::request_medium(const MediumRequest& request) {
  if (m_machine.inputs().input_closed()) return failure("recorded input is being played; media change as they were changed then");
  // Somebody waits for the answer, so it is served at once.
  const std::vector<u8> piece = request.piece();
  m_media_result = failure("the machine is being reset; try again");
  m_media_port->submit(piece);
  m_machine.deliver_input();
  return m_media_result;
}

Result<void> PcBoard::eject_medium(std::string_view name, bool force) {
  return request_medium({.drive = std::string(name), .force = force});
}

Result<void> PcBoard::change_medium(std::string_view name, ImageOptions image, bool force) {
  if (image.path.empty() || image.path.contains('\0')) return failure("an image has a name");
  MediumRequest request{.drive = std::string(name), .image = std::move(image), .force = force};
  if (m_machine.inputs().writes_file()) {
    ImageOptions look = request.image;
    look.read_only = true;
    auto opened = open_image(look);
    if (!opened) return std::unexpected(opened.error());
    auto fingerprint = medium_fingerprint(**opened);
    if (!fingerprint) return std::unexpected(fingerprint.error());
    request.fingerprint = std::move(*fingerprint);
  }
  return request_medium(request);
}

std::vector<BlockDevice*> PcBoard::inserted_media() {
  std::vector<BlockDevice*> media;
  for (unsigned i = 0; i < 4; ++i) {
    IdeDrive* drive = m_ide->drive(i / 2, i % 2);
    if (auto* disk = dynamic_cast<AtaDisk*>(drive)) media.push_back(&disk->medium());
    else if (auto* cdrom = dynamic_cast<AtapiCdrom*>(drive); cdrom && cdrom->medium()) media.push_back(cdrom->medium());
  }
  for (unsigned i = 0; i < Floppy82077aa::kDrives; ++i)
    if (BlockDevice* medium = m_floppy->medium(i)) media.push_back(medium);
  for (UsbStorage* disk : m_usb_disks)
    if (BlockDevice* medium = disk->disk().medium()) media.push_back(medium);
  return media;
}

}  // namespace vellum
