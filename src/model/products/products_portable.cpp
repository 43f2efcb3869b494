// Products of panels with vectors of 16 bytes, which every processor that depthlens is built for has.
#include "model/products/products_impl.hpp"

namespace depthlens::model {

const PanelProducts kPortableProducts = float32_products<16, 4, 2>();

}  // namespace depthlens::model
