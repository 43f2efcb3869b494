// Products of panels, compiled for AVX2 and FMA: 12 of 16 registers hold sums.
#include "model/products/products_impl.hpp"

namespace depthlens::model {

const PanelProducts kAvx2Products = float32_products<32, 6, 2>();

}  // namespace depthlens::model
