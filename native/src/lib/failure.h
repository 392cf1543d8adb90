// An error of the library: the code and the sentence that the border hands to the caller.
#pragma once

#include <stdexcept>
#include <string>

#include "littlefoot.h"

namespace littlefoot {

class Failure : public std::runtime_error {
  public:
    Failure(lf_code code, const std::string& sentence) : std::runtime_error(sentence), code_(code) {}
    lf_code code() const { return code_; }

  private:
    lf_code code_;
};

}  // namespace littlefoot
