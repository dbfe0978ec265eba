// The visitor over guest-visible state: every part names its state once, in visit(Archive&), for save, load, hash and
// inspect.
#pragma once

#include <array>
#include <concepts>
#include <deque>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "state/error.h"
#include "state/integers.h"

namespace vellum {

class Archive;

template <class T>
concept Visitable = requires(T& value, Archive& archive) { value.visit(archive); };

// Fields are little-endian and have a fixed size; a section is a named group of fields. Which engine stands behind
// (writer, reader, hasher, printer) is invisible to visit(), but for loading(), which lets a part rebuild what it
// derives from its state after the last field.
//
//   void Pit8254::visit(Archive& archive) {
//     auto& [channels, speaker_gate] = m_state;      // exhaustive: a forgotten field does not compile
//     archive("channels", channels)("speaker_gate", speaker_gate);
//     archive.require(speaker_gate <= 1, "speaker gate");
//     if (archive.loading()) rearm();
//   }
class Archive {
 public:
  virtual ~Archive() = default;

  virtual bool loading() const { return false; }

  // Load only: refuses the file when `valid` is false. The caller of load then restores what was there before, so
  // visit() may go on with the values read but must not index or loop with them before the check.
  void require(bool valid, std::string_view what);
  bool failed() const { return m_error.has_value(); }
  const std::optional<Error>& error() const { return m_error; }
  void fail(std::string message);

  template <class T>
  Archive& operator()(std::string_view name, T& value) {
    using U = std::remove_cv_t<T>;
    if constexpr (std::is_same_v<U, bool>) {
      u8 byte = value;
      scalar(name, &byte, 1);
      value = byte != 0;
    } else if constexpr (std::is_arithmetic_v<U> || std::is_enum_v<U> || std::is_same_v<U, u128>) {
      scalar(name, &value, sizeof(value));
    } else if constexpr (Visitable<T>) {
      begin(name);
      value.visit(*this);
      end();
    } else {
      composite(name, value);
    }
    return *this;
  }

  // A named group; groups nest.
  virtual void begin(std::string_view name) = 0;
  virtual void end() = 0;
  // A fixed-size little-endian integer, enum or float of `size` bytes.
  virtual void scalar(std::string_view name, void* data, usize size) = 0;
  // A block of bytes whose size both sides know (a RAM-like buffer inside a device).
  virtual void bytes(std::string_view name, std::span<u8> data) = 0;
  // The element count of a container. On load it returns what the file says (0 after a failure), at most `limit`.
  virtual u64 count(std::string_view name, u64 current, u64 limit) = 0;

 protected:
  static constexpr u64 kElementLimit = 1u << 24;

 private:
  template <class T>
  void elements(T& container) {
    for (auto& element : container) (*this)("", element);
  }
  template <class T, usize N>
  void composite(std::string_view name, std::array<T, N>& array) {
    if constexpr (std::is_same_v<T, u8>) {
      bytes(name, array);
    } else {
      begin(name);
      elements(array);
      end();
    }
  }
  template <class T, usize N>
  void composite(std::string_view name, T (&array)[N]) {
    if constexpr (std::is_same_v<T, u8>) {
      bytes(name, array);
    } else {
      begin(name);
      elements(array);
      end();
    }
  }
  template <class T>
  void resizable(std::string_view name, T& container) {
    begin(name);
    const u64 size = count("count", container.size(), kElementLimit);
    if (loading()) container.resize(size);
    if constexpr (std::is_same_v<T, std::vector<u8>>) {
      bytes("data", container);
    } else {
      elements(container);
    }
    end();
  }
  template <class T>
  void composite(std::string_view name, std::vector<T>& container) {
    resizable(name, container);
  }
  template <class T>
  void composite(std::string_view name, std::deque<T>& container) {
    resizable(name, container);
  }
  void composite(std::string_view name, std::string& text) { resizable(name, text); }
  template <class T>
  void composite(std::string_view name, std::optional<T>& value) {
    begin(name);
    bool present = value.has_value();
    (*this)("present", present);
    if (loading()) {
      if (present) value.emplace();
      else value.reset();
    }
    if (value) (*this)("value", *value);
    end();
  }

  std::optional<Error> m_error;
};

// Appends fields to a byte buffer, each with its name and size, so that a reader of another layout is refused.
class ArchiveWriter : public Archive {
 public:
  const std::vector<u8>& data() const { return m_data; }
  std::vector<u8> take() { return std::move(m_data); }
  void begin(std::string_view name) override;
  void end() override;
  void scalar(std::string_view name, void* data, usize size) override;
  void bytes(std::string_view name, std::span<u8> data) override;
  u64 count(std::string_view name, u64 current, u64 limit) override;

 private:
  void tag(u8 kind, std::string_view name, u64 size);
  std::vector<u8> m_data;
};

// Reads what ArchiveWriter wrote. The first mismatch of kind, name or size fails the archive; from then on every field
// keeps the value it has.
class ArchiveReader : public Archive {
 public:
  explicit ArchiveReader(std::span<const u8> data) : m_data(data) {}
  bool loading() const override { return true; }
  bool at_end() const { return m_position == m_data.size(); }
  void begin(std::string_view name) override;
  void end() override;
  void scalar(std::string_view name, void* data, usize size) override;
  void bytes(std::string_view name, std::span<u8> data) override;
  u64 count(std::string_view name, u64 current, u64 limit) override;

 private:
  bool tag(u8 kind, std::string_view name, u64 size);
  bool take(void* data, usize size);
  std::span<const u8> m_data;
  usize m_position = 0;
  std::string m_path;
};

// 64-bit FNV-1a style hash over all values, for comparing machines.
class ArchiveHasher : public Archive {
 public:
  u64 hash() const { return m_hash; }
  void begin(std::string_view) override {}
  void end() override {}
  void scalar(std::string_view name, void* data, usize size) override;
  void bytes(std::string_view name, std::span<u8> data) override;
  u64 count(std::string_view name, u64 current, u64 limit) override;

 private:
  u64 m_hash = 0xcbf29ce484222325;
};

// Prints "path.to.field = 0x..." lines, for `info` in the monitor and for finding the field that differs.
class ArchivePrinter : public Archive {
 public:
  const std::string& text() const { return m_text; }
  void begin(std::string_view name) override;
  void end() override;
  void scalar(std::string_view name, void* data, usize size) override;
  void bytes(std::string_view name, std::span<u8> data) override;
  u64 count(std::string_view name, u64 current, u64 limit) override;

 private:
  std::string path(std::string_view name);
  std::string m_text;
  std::vector<std::string> m_path;
  std::vector<u64> m_index;
};

}  // namespace vellum
