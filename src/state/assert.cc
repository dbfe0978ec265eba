// VELLUM_ASSERT's failure path.
#include "state/assert.h"

#include <cstdio>
#include <cstdlib>

namespace vellum {

namespace {
void (*g_describe)(void*) = nullptr;
void* g_context = nullptr;
}  // namespace

void set_assert_context(void (*describe)(void*), void* context) {
  g_describe = describe;
  g_context = context;
}

void assertion_failed(const char* condition, const char* file, int line) {
  std::fprintf(stderr, "vellum: internal error: %s does not hold (%s:%d)\n", condition, file, line);
  if (auto* describe = g_describe) {
    g_describe = nullptr;  // a failure inside the description must not recurse
    describe(g_context);
  }
  std::abort();
}

}  // namespace vellum
