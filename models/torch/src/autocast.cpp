// Mixed precision for the calling thread: tch has no call that chooses bfloat16.
#include <ATen/autocast_mode.h>

extern "C" int migrator_autocast(int cuda, int on) noexcept {
  try {
    const auto device = cuda != 0 ? at::DeviceType::CUDA : at::DeviceType::CPU;
    at::autocast::set_autocast_dtype(device, at::kBFloat16);
    at::autocast::set_autocast_enabled(device, on != 0);
    // Copies of weights in half precision are kept while it is on, and would be those of an earlier step.
    at::autocast::clear_cache();
    return 0;
  } catch (...) {
    return 1;
  }
}
