// Models that see: which there are, and the language model inside.
#pragma once

#include <string>
#include <vector>

#include "depthlens/model/arch_spec.hpp"
#include "depthlens/util/json.hpp"

namespace depthlens::model {

/// A model that sees pictures around a language model, which alone is read.
struct Wrapper {
  /// Whether the unembedding is the embedding, as transformers 5 has it. What the config outside says counts.
  enum class Ties {
    kNo,           ///< not where it says nothing; the language model's own config does not matter
    kYes,          ///< they are where it says nothing; likewise
    kYesOrInside,  ///< as kYes, but they also are where the language model's config or its class says so
    kIfInside,     ///< as kNo, but they also are where the language model's config or its class says so
    kAsInside,     ///< as the language model's config or its class says; what it says outside does not matter
    kInsideUnlessSaid  ///< likewise, where the config outside says nothing
  };
  std::string architecture, model_type;
  std::string text_type;  ///< the language model's `model_type`, where its config names none
  Ties ties;
  bool any_text = true;      ///< no: its config is one of `text_type`, whatever it names
  bool flat = false;         ///< where there is no `text_config`, its settings stand outside
  bool caps_logits = false;  ///< as the language model says; no: a soft cap is left out
  bool drops_scale = false;  ///< logits are not scaled, whatever the language model says; no: it is refused
  /// The config has what the others have under this key, "thinker_config", and names of tensors begin with
  /// "thinker.".
  std::string part = {};
  std::string ties_key = {};  ///< another name of `tie_word_embeddings` outside, which counts before it
};
const std::vector<Wrapper>& wrappers();

/// The wrapper that a config is of, or none.
const Wrapper* named_wrapper(const util::JsonView& config);

/// The language model inside, with the names that its tensors have there.
ArchSpec read_wrapped(const util::JsonView& config, const Wrapper& wrapper);

}  // namespace depthlens::model
