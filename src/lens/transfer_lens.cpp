// One translator of a lens on every layer: does what it learned on its own layer serve another (Belrose et
// al. 2023, section on transfer)?
#include "depthlens/util/error.hpp"
#include "depthlens/util/text.hpp"
#include "lens_files.hpp"

namespace depthlens::lens {
namespace {

class TransferLens : public Lens {
 public:
  TransferLens(const Lens& lens, std::int64_t index) : lens_(lens), index_(index) {
    request_ = lens.request();
    request_.name = util::cat(request_.name, ".", index);
    digest_ = lens.digest();
  }

  // A lens has one translator a layer below L, so their number is L.
  bool translates(std::int64_t layer) const override { return layer < lens_.num_translators(); }

  at::Tensor translate(std::int64_t /*layer*/, const at::Tensor& states) const override {
    return lens_.apply_translator(index_, states);
  }

 private:
  const Lens& lens_;
  std::int64_t index_;
};

}  // namespace

std::unique_ptr<Lens> make_transfer_lens(const Lens& lens, std::int64_t index) {
  DEPTHLENS_ASSERT(index >= 0 && index < lens.num_translators());
  return std::make_unique<TransferLens>(lens, index);
}

}  // namespace depthlens::lens
