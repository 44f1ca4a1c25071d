// A CUDA stream for the calling thread, through the part of libtorch that needs no CUDA headers: builds and links without CUDA.
#include <c10/core/impl/VirtualGuardImpl.h>

extern "C" int migrator_own_stream() noexcept {
  try {
    const c10::impl::VirtualGuardImpl cuda(c10::DeviceType::CUDA);
    cuda.exchangeStream(cuda.getStreamFromGlobalPool(c10::Device(c10::DeviceType::CUDA, 0)));
    return 0;
  } catch (...) {
    return 1;
  }
}
