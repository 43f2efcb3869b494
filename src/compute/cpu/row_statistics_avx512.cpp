// Row statistics, compiled for avx512.
#include "compute/cpu/row_statistics_impl.hpp"

namespace depthlens::compute {

const RowStatistics kAvx512Statistics = {row_max,  row_find_at_least, row_count_greater, row_shift_and_exp,
                                         row_sums, row_exponentials,  row_finish_logits};

}  // namespace depthlens::compute
