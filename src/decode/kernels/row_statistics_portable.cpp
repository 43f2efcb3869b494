// Row statistics, compiled for any processor.
#include "decode/kernels/row_statistics_impl.hpp"

namespace depthlens::decode {

const RowStatistics kPortableStatistics = {
    row_max,  row_find_at_least, row_count_greater,        row_shift_and_exp,
    row_sums, row_exponentials,  row_exponentials_bfloat16};

}  // namespace depthlens::decode
