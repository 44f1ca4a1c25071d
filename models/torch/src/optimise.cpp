// TorchScript rewritten for inference: weights become constants, batch norm is folded into convolutions, and on the host convolutions keep
// their weights in the layout that oneDNN computes in. tch has no call for it.
#include <torch/csrc/jit/api/module.h>

// Puts the rewritten module in place of `module`; gives what was there, for `migrator_optimise_end`, or null when nothing was changed.
extern "C" void *migrator_optimise_begin(void *module) noexcept {
  try {
    auto &here = *static_cast<torch::jit::Module *>(module);
    auto before = std::make_unique<torch::jit::Module>(here);
    here = torch::jit::optimize_for_inference(here);
    return before.release();
  } catch (...) {
    return nullptr;
  }
}

// Frees what was there, or puts it back.
extern "C" void migrator_optimise_end(void *module, void *before, int keep) noexcept {
  std::unique_ptr<torch::jit::Module> was(static_cast<torch::jit::Module *>(before));
  if (keep == 0) {
    *static_cast<torch::jit::Module *>(module) = *was;
  }
}
