// Products of panels, compiled for AVX-512: 24 of 32 registers hold sums.
#include "model/products/products_impl.hpp"

namespace depthlens::model {

const PanelProducts kAvx512Products = float32_products<64, 8, 3>();

}  // namespace depthlens::model
