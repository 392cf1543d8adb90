// The live models of the Python module: a model file's content, and the logits of its streams. What a stream gives is
// what liblittlefoot gives.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/string.h>

#include <cmath>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <vector>

#include "lib/failure.h"
#include "lib/live.h"
#include "lib/model.h"
#include "module.h"
#include "pool.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace littlefoot {

namespace {

using Samples = nb::ndarray<const float, nb::ndim<1>, nb::c_contig, nb::device::cpu>;

struct LiveModel {
    std::shared_ptr<const Model> model;
};

// Threads that share a stream take turns.
class LiveFrames {
  public:
    LiveFrames(std::shared_ptr<const Model> model, long chunk)
        : tokens_(model->tokens()), frames_(make_frames(std::move(model), chunk)) {}

    double latency() const { return frames_->latency(); }

    nb::ndarray<nb::numpy, float> feed(Samples samples) {
        aligned(samples, "the samples");
        const float* data = samples.data();
        const long count = static_cast<long>(samples.shape(0));
        for (long i = 0; i < count; ++i)
            if (!std::isfinite(data[i])) throw std::invalid_argument("the samples hold NaN or infinite values");
        return logits([&](std::vector<float>& out) { frames_->feed(data, count, out); });
    }

    nb::ndarray<nb::numpy, float> finish() {
        return logits([&](std::vector<float>& out) { frames_->finish(out); });
    }

  private:
    template <typename Compute>
    nb::ndarray<nb::numpy, float> logits(const Compute& compute) {
        auto made = std::make_unique<std::vector<float>>();
        {
            const nb::gil_scoped_release release;
            const Running running;
            const std::lock_guard lock(mutex_);
            compute(*made);
        }
        const size_t frames = made->size() / tokens_;
        float* data = made->data();
        nb::capsule owner(made.release(), [](void* p) noexcept { delete static_cast<std::vector<float>*>(p); });
        return nb::ndarray<nb::numpy, float>(data, {frames, tokens_}, owner);
    }

    std::mutex mutex_;
    size_t tokens_;
    std::unique_ptr<Frames> frames_;
};

}  // namespace

void add_streams(nb::module_& m) {
    nb::class_<LiveFrames>(m, "LiveFrames", "The frames of one stream.")
        .def_prop_ro("latency", &LiveFrames::latency, "Seconds from a frame to the last sample that can change it.")
        .def("feed", &LiveFrames::feed, "samples"_a.noconvert(), "Samples (N,) -> logits of the frames that they complete.")
        .def("finish", &LiveFrames::finish, "The logits of the frames that are left.");

    nb::class_<LiveModel>(m, "LiveModel", "A model for streams, from the content of a model file.")
        .def(
            "__init__",
            [](LiveModel* self, nb::bytes content, int threads, const std::string& kernels) {
                if (threads < 1 || threads > 1024) throw std::invalid_argument("a model needs 1 to 1024 threads");
                const std::span<const uint8_t> file(static_cast<const uint8_t*>(content.data()), content.size());
                new (self) LiveModel{std::make_shared<const Model>(file, select(kernels), threads)};
            },
            "content"_a, "threads"_a = 1, "kernels"_a = "auto")
        .def_prop_ro("most_at_once", [](const LiveModel& self) { return self.model->streams() ? self.model->chunks().most() : 1; },
                     "The largest number of chunks that were computed side by side so far.")
        .def(
            "frames", [](const LiveModel& self, long chunk) { return new LiveFrames(self.model, chunk); }, "chunk"_a, "Begin a stream that decides so many frames at once; 0: as many as the model was trained with.");
}

}  // namespace littlefoot
