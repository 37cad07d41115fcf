// Recurrent layers: the steps of RNN, GRU and LSTM. `linear` has multiplied the inputs of all steps
// by their weights beforehand.
//
// A task is a few rows of the batch in one direction, from the first step to the last. Their states
// stay in L1, and only the recurrent weights are read at every step. A gate has whole blocks of 16
// columns; lanes past `hidden` never reach a sum over the states.
//
// Few rows wait for the weights, which L1 does not hold. Narrow weights are fewer bytes. The result
// has the same bits as that by the floats that they stand for.
#include "linear.h"

namespace cnnrt::CNNRT_ISA {
namespace {

// Calls f with the weights' element type.
template <class F>
CNNRT_INLINE auto with_weights(const RecurrentArgs& g, F f) {
    switch (g.weight_type) {
        case DType::float16:
            return f(Float16{});
        case DType::bfloat16:
            return f(BFloat16{});
        case DType::int8:
            return f(int8_t{});
        default:
            return f(float{});
    }
}

// The offsets of taps of 16 states in a row.
struct StateOffsets {
    int32_t of[kMaxNarrowStates / 16];
    constexpr StateOffsets() : of{} {
        for (int32_t i = 0; i < kMaxNarrowStates / 16; ++i) of[i] = i * 16;
    }
};
constexpr StateOffsets kStateOffsets;

// Rows of a task.
constexpr auto kRowsOf = [](auto weight) { return kTileShape<float, decltype(weight)>.dense_rows; };

CNNRT_INLINE int64_t width(const RecurrentArgs& g) { return ceil_div(g.hidden, 16) * 16; }
CNNRT_INLINE int64_t gates_of(const RecurrentArgs& g) {
    return g.cell == Cell::lstm ? 4 : g.cell == Cell::gru ? 3 : 1;
}
CNNRT_INLINE int64_t row_groups(const RecurrentArgs& g) {
    return ceil_div(g.batch, with_weights(g, kRowsOf));
}

// v[i] = f(a[i], b[i], c[i]) for i in [0, n), n a multiple of 16.
template <class F>
CNNRT_INLINE void combine(float* v, const float* a, const float* b, const float* c, int64_t n,
                          F f) {
    for (int64_t i = 0; i < n; i += 16) store(v + i, f(load(a + i), load(b + i), load(c + i)));
}

// The rows of one task and what they keep from step to step.
template <class W>
struct Rows {
    using T = Tile<WeightsOf<W>>;
    static constexpr int kRows = T::kShape.dense_rows, kBlocks = T::kShape.dense_blocks;
    static constexpr TileTable<T, kRows, kBlocks, 0, false> kTiles{};
    static constexpr TileTable<T, kRows, 1, 0, false> kSingle{};  // the blocks left over

    const RecurrentArgs& g;
    const Context& context;
    int64_t direction, first, rows, h16;
    const W* weight;
    const float *factors, *bias, *peephole;
    float *h, *c, *gates, *extra;  // [rows][...], in scratch memory
    Epilogue squash, inner, outer, clip;

    Rows(const RecurrentArgs& args, const Context& ctx, int64_t task)
        : g(args), context(ctx), h16(width(args)) {
        direction = task / row_groups(g);
        first = task % row_groups(g) * kRows;
        rows = smaller<int64_t>(kRows, g.batch - first);
        weight = context.template at<const W>(g.weight) + direction * gates_of(g) * h16 * g.hidden;
        bias = g.bias ? context.at(g.bias) + direction * h16 : nullptr;
        peephole = g.peephole ? context.at(g.peephole) + direction * 3 * h16 : nullptr;
        const int64_t factors_block = ceil_div(g.hidden, 32) * 16;
        factors = g.factors
                      ? context.at(g.factors) + direction * gates_of(g) * (h16 / 16) * factors_block
                      : nullptr;
        h = reinterpret_cast<float*>(context.scratch);
        c = h + kRows * h16;
        extra = c + kRows * h16;
        gates = extra + kRows * h16;
        squash = g.activations[direction * 3];
        inner = g.activations[direction * 3 + 1];
        outer = g.activations[direction * 3 + 2];
        clip = {Activation::clip, -g.clip, g.clip};
    }

    void apply(const Epilogue& e, float* p, int64_t n) const {
        if (g.clip > 0) activate(clip, p, n);
        if (e.activation != Activation::none) activate(e, p, n);
    }

    // Computes columns [block, block + blocks) * 16 of y = start + a R + residual; `start` and
    // `residual` may be null. y and residual point at their own column 0.
    void multiply(const float* a, int64_t block, int64_t blocks, const float* start,
                  const float* residual, float* y, int64_t y_row) const {
        alignas(64) static constexpr float kNone[kBlocks * 16] = {};
        T t{};
        t.a = a;
        t.a_step = h16;
        t.offsets = kStateOffsets.of;
        t.last_taps = 1;
        t.last_steps = static_cast<int>(g.hidden);
        if constexpr (T::Products::kScaled) {
            t.factors_block = ceil_div(g.hidden, 32) * 16;
            t.taps = static_cast<int>(g.hidden / 16);
            t.last_steps = static_cast<int>(g.hidden % 16);
            t.last_taps = t.last_steps ? 1 : 0;
        }
        t.b_block = g.hidden * 16;
        t.residual_block = t.y_block = 16;
        t.residual_row = g.x_row;
        t.y_row = y_row;
        t.lanes = 16;
        for (int64_t i = 0; i < blocks;) {
            const bool all = blocks - i >= kBlocks;
            if constexpr (T::Products::kScaled)
                t.first_factors = factors + (block + i) * t.factors_block;
            t.b = weight + (block + i) * t.b_block;
            t.bias = start ? start + i * 16 : kNone;
            t.residual = residual ? residual + i * 16 : nullptr;
            t.y = y + i * 16;
            (all ? kTiles.of_rows : kSingle.of_rows)[rows](t);
            i += all ? kBlocks : 1;
        }
    }

    void step_rnn(const float* x) {
        multiply(h, 0, h16 / 16, nullptr, x, gates, h16);
        for (int64_t r = 0; r < rows; ++r) apply(squash, gates + r * h16, h16);
    }

    // Gates z, r, h. The new state is left in `gates`.
    void step_gru(const float* x) {
        const int64_t blocks = h16 / 16, row = 3 * h16;
        multiply(h, 0, 2 * blocks, nullptr, x, gates, row);
        for (int64_t r = 0; r < rows; ++r) apply(squash, gates + r * row, 2 * h16);
        if (g.reset_after) {
            multiply(h, 2 * blocks, blocks, bias, nullptr, extra, h16);
            for (int64_t r = 0; r < rows; ++r) {
                float* gate = gates + r * row;
                combine(gate + 2 * h16, gate + h16, extra + r * h16, x + r * g.x_row + 2 * h16, h16,
                        [](f32x16 reset, f32x16 hidden, f32x16 input) {
                            return fma(reset, hidden, input);
                        });
            }
        } else {
            for (int64_t r = 0; r < rows; ++r) {
                const float* state = h + r * h16;
                combine(extra + r * h16, gates + r * row + h16, state, state, h16,
                        [](f32x16 reset, f32x16 v, f32x16) { return mul(reset, v); });
            }
            multiply(extra, 2 * blocks, blocks, nullptr, x + 2 * h16, gates + 2 * h16, row);
        }
        for (int64_t r = 0; r < rows; ++r) {
            float* gate = gates + r * row;
            apply(inner, gate + 2 * h16, h16);
            combine(gate, gate, gate + 2 * h16, h + r * h16, h16,
                    [](f32x16 z, f32x16 candidate, f32x16 old) {
                        return fma(z, sub(old, candidate), candidate);
                    });
        }
    }

    // Gates i, o, f, c. The new states are left in the first gate and in `extra`.
    void step_lstm(const float* x) {
        const int64_t row = 4 * h16;
        multiply(h, 0, row / 16, nullptr, x, gates, row);
        const auto look = [&](float* gate, const float* weights, const float* state) {
            combine(gate, weights, state, gate, h16,
                    [](f32x16 p, f32x16 s, f32x16 v) { return fma(p, s, v); });
        };
        for (int64_t r = 0; r < rows; ++r) {
            float *i = gates + r * row, *o = i + h16, *f = o + h16, *next = f + h16;
            float *old = c + r * h16, *cell = extra + r * h16;
            if (peephole) {
                look(i, peephole, old);
                look(f, peephole + 2 * h16, old);
                apply(squash, i, h16);
                apply(squash, f, h16);
            } else {
                apply(squash, i, 3 * h16);
            }
            if (g.input_forget)
                combine(f, i, i, i, h16,
                        [](f32x16 v, f32x16, f32x16) { return sub(broadcast(1.0f), v); });
            apply(inner, next, h16);
            combine(cell, f, old, old, h16, [](f32x16 a, f32x16 b, f32x16) { return mul(a, b); });
            combine(cell, i, next, cell, h16,
                    [](f32x16 a, f32x16 b, f32x16 s) { return fma(a, b, s); });
            if (peephole) {
                look(o, peephole + h16, cell);
                apply(squash, o, h16);
            }
            __builtin_memcpy(i, cell, static_cast<size_t>(h16) * 4);
            apply(outer, i, h16);
            combine(i, i, o, o, h16, [](f32x16 a, f32x16 b, f32x16) { return mul(a, b); });
        }
    }

    float* state_of(Ref at, int64_t row) const {
        return context.at(at) + direction * g.state_direction + (first + row) * g.state_row;
    }

    void run() {
        const size_t bytes = static_cast<size_t>(g.hidden) * 4;
        const int64_t row = gates_of(g) * h16;
        for (int64_t i = 0; i < 2 * kRows * h16; i += 16) store(h + i, zero());
        for (int64_t r = 0; r < rows; ++r) {
            if (g.h0) __builtin_memcpy(h + r * h16, state_of(g.h0, r), bytes);
            if (g.c0) __builtin_memcpy(c + r * h16, state_of(g.c0, r), bytes);
        }
        const int32_t* lengths = context.at<const int32_t>(g.lengths);
        const float* inputs = context.at(g.x) + direction * row + first * g.x_row;
        const bool backward = direction == 1 || g.reverse;
        for (int64_t k = 0; k < g.length; ++k) {
            const int64_t t = backward ? g.length - 1 - k : k;
            const float* x = inputs + t * g.x_time;
            switch (g.cell) {
                case Cell::rnn:
                    step_rnn(x);
                    break;
                case Cell::gru:
                    step_gru(x);
                    break;
                case Cell::lstm:
                    step_lstm(x);
                    break;
            }
            for (int64_t r = 0; r < rows; ++r) {
                const bool live = !lengths || t < lengths[first + r];
                if (live) {
                    const size_t all = static_cast<size_t>(h16) * 4;
                    __builtin_memcpy(h + r * h16, gates + r * row, all);
                    if (g.cell == Cell::lstm) __builtin_memcpy(c + r * h16, extra + r * h16, all);
                }
                if (!g.y) continue;
                float* y = context.at(g.y) + t * g.y_time + direction * g.y_direction +
                           (first + r) * g.y_row;
                if (live)
                    __builtin_memcpy(y, h + r * h16, bytes);
                else
                    __builtin_memset(y, 0, bytes);
            }
        }
        for (int64_t r = 0; r < rows; ++r) {
            if (g.h_last) __builtin_memcpy(state_of(g.h_last, r), h + r * h16, bytes);
            if (g.c_last) __builtin_memcpy(state_of(g.c_last, r), c + r * h16, bytes);
        }
    }
};

}  // namespace

void recurrent(const RecurrentArgs& args, const Context& context, int64_t begin, int64_t end) {
    with_weights(args, [&](auto weight) {
        for (int64_t task = begin; task < end; ++task)
            Rows<decltype(weight)>(args, context, task).run();
    });
}

int64_t recurrent_tasks(const RecurrentArgs& args) { return args.directions * row_groups(args); }

int64_t recurrent_scratch(const RecurrentArgs& args) {
    return (3 + gates_of(args)) * with_weights(args, kRowsOf) * width(args) * 4;
}

}  // namespace cnnrt::CNNRT_ISA
