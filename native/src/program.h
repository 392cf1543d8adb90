// A part of a network as a list of steps, run in one call.
//
// Every step but attention and convolution treats each row (frame) by itself. So a program is cut into stages at
// those: within a stage a thread takes a few rows through all steps, while they are in its cache, and threads
// meet only where keys and values, or rounded inputs, of other rows are needed.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <variant>
#include <vector>

#include "pool.h"
#include "weights.h"

namespace littlefoot {

// Columns of a value.
struct View {
    int value;
    long offset;
};

struct Linear {
    int source;
    Weights weights;
    int residual;  // or -1
    int target;
};

// A convolution over time: a row of the output sees the weights' taps of the input's rows, ``behind`` of them before its
// own. Where there are none, the input is zero.
struct Convolution {
    int source;
    Weights weights;
    long behind;
    int residual;  // or -1
    int target;
};

struct LayerNorm {
    int source;
    std::vector<float> weight, bias;
    float eps;
    int target;
};

struct Add {
    int source;
    int other;                 // a value, or -1
    std::vector<float> vector;  // added to every row where ``other`` is -1
    int target;
};

struct Activate {
    int source;
    Activation activation;
    int target;
};

struct Attention {
    View query, key, value;
    long heads, head_dim;
    float scale;
    float query_scale, key_scale;  // of 8-bit scores, or 0
    int bias;  // index of the bias given to ``run``, or -1
    int target;
};

using Step = std::variant<Linear, Convolution, LayerNorm, Add, Activate, Attention>;

// What to do with each kind of step, for std::visit; the compiler demands a case for every kind.
template <typename... Cases>
struct For : Cases... {
    using Cases::operator()...;
};
template <typename... Cases>
For(Cases...) -> For<Cases...>;

// Added to the scores of attention: (1 or heads, frames, frames).
struct Bias {
    const float* data;
    long heads;
};

class Program {
  public:
    Program(const Kernels& kernels, int threads, long inputs);
    const Kernels& kernels() const { return kernels_; }
    const std::shared_ptr<Pool>& pool() const { return pool_; }  // for a front end that shares its threads

    int add_value(long width);  // a new one; value 0 is the input
    long width(int value) const;
    void add(Step step);
    size_t bytes() const;  // of the matrices, each once

    // x (frames, inputs) -> out (frames, outputs), of the last step's target. Throws where these are not its
    // ``output_width``, or an attention lacks its bias.
    void run(const float* x, long frames, const std::vector<Bias>& biases, float* out, long outputs);
    long output_width() const;

  private:
    struct Buffer {
        bool local;
        long slot;
    };
    struct Map {       // of an attention, for those that follow with the same queries and keys
        int slot = -1;  // of ``maps_``, or -1 if no other has them
        bool known = false;
    };
    struct KeptMap {
        Bytes weights;            // (heads, frames, map_row)
        std::vector<float> sums;  // (heads, frames)
    };
    struct Worker {
        std::vector<Bytes> slots;
        Bytes attention;
        Scratch scratch;
    };
    struct Rows {
        long first, count;
        Worker& worker;
    };

    void check_biases(const std::vector<Bias>& biases) const;
    void plan();
    void plan_maps();
    void reserve(size_t step, long frames);
    KeptMap* kept_map(size_t step, long frames);
    void run_rows(size_t stage, const Rows& rows, long frames, const std::vector<Bias>& biases);
    float* at(int value, const Rows& rows);
    long stride(int value) const;
    Output output(int target, int residual, const Rows& rows);
    void run(const Linear& step, const Rows& rows);
    void run(const Convolution& step, const Rows& rows, long frames, int set);
    void run(const LayerNorm& step, const Rows& rows);
    void run(const Add& step, const Rows& rows);
    void run(const Activate& step, const Rows& rows);
    void attend(size_t step, const Rows& rows, long frames, const std::vector<Bias>& biases, int set);
    void pack(size_t step, const Rows& rows, long frames, int set);
    void pack(const Convolution& step, const Rows& rows, long frames, int set);

    const Kernels& kernels_;
    std::shared_ptr<Pool> pool_;
    std::vector<long> widths_;
    std::vector<Step> steps_;

    bool planned_ = false;
    std::vector<size_t> stages_;  // first step of each, and the end; all but the first begin with one that sees all rows
    std::vector<Buffer> buffers_;
    std::vector<long> local_widths_, global_widths_;
    std::vector<Bytes> globals_;
    std::vector<Map> step_maps_;  // of each step
    std::vector<KeptMap> maps_;
    // Of this step that sees all rows and the one before:
    Bytes keys_[2], values_[2];
    Bytes windows_[2];                  // inputs of a convolution, (groups, behind + frames + ahead, channels)
    std::vector<int32_t> sums_[2];      // of their channels, (groups, behind + frames + ahead)
    std::vector<Worker> workers_;
};

}  // namespace littlefoot
