// Row statistics, compiled for any processor.
#include "compute/cpu/row_statistics_impl.hpp"

namespace depthlens::compute {

const RowStatistics kPortableStatistics = {row_max,           row_find_at_least, row_find_all_at_least,
                                           row_count_greater, row_shift_and_exp, row_sums,
                                           row_exponentials,  row_finish_logits};

}  // namespace depthlens::compute
