// Row statistics, compiled for avx512.
#include "decode/kernels/row_statistics_impl.hpp"

namespace depthlens::decode {

const RowStatistics kAvx512Statistics = {
    row_max,  row_find_at_least, row_count_greater,        row_shift_and_exp,
    row_sums, row_exponentials,  row_exponentials_bfloat16};

}  // namespace depthlens::decode
