// The logit lens: every state is decoded as it is (nostalgebraist 2020).
#include "depthlens/util/error.hpp"
#include "lens_files.hpp"

namespace depthlens::lens {
namespace {

class LogitLens : public Lens {
 public:
  explicit LogitLens(const LensRequest& request) { request_ = request; }
  bool translates(std::int64_t /*layer*/) const override { return false; }
  at::Tensor translate(std::int64_t /*layer*/, const at::Tensor& states) const override { return states; }
};

}  // namespace

std::unique_ptr<Lens> make_logit_lens(const LensRequest& request, const model::Model& /*model*/,
                                      Alignment /*alignment*/) {
  return std::make_unique<LogitLens>(request);
}

}  // namespace depthlens::lens
