// Attention: y = softmax(scale q k^T + mask) v, for every image and head.
//
// The keys of a head are packed as panels [tokens / 16][depth][16], its values as
// [columns / 16][tokens][16]. Consecutive tasks of a thread share them. A task is a chunk of
// queries: its scores stay in L2, in the blocked form that the second product reads. Rows become
// e^(s - m), with m the largest score; the division by their sum is applied to the result, which is
// shorter. A row whose scores are all -infinity attends to nothing and becomes zeros.
#include "product.h"

namespace cnnrt::CNNRT_ISA {
namespace {

constexpr int64_t kScores = 65536;  // approximate floats of scores in a chunk: 256 KB, a part of L2

// How the scratch memory of a thread is laid out, in floats.
struct Layout {
    int64_t tiles, token_blocks, depth_blocks, column_blocks;
    int64_t keys, values, queries, scores, factors, query_offsets, score_offsets, size;

    explicit Layout(const AttentionArgs& g)
        : token_blocks(ceil_div(g.tokens, 16)),
          depth_blocks(ceil_div(g.depth, 16)),
          column_blocks(ceil_div(g.columns, 16)) {
        // Whole tiles, at most four of them: enough rows to pay for reading the panels.
        tiles = kScores / (token_blocks * 16 * kTileRows);
        tiles = larger<int64_t>(1, smaller<int64_t>(4, tiles));
        const int64_t chunk = tiles * kTileRows;
        int64_t at = 0;
        const auto take = [&](int64_t floats) { return (at += floats) - floats; };
        keys = take(token_blocks * 16 * g.depth);
        values = take(column_blocks * 16 * g.tokens);
        queries = take(depth_blocks * 16 * chunk);
        scores = take(token_blocks * 16 * chunk);
        factors = take(ceil_div(chunk, 16) * 16);
        query_offsets = take(ceil_div(depth_blocks, 16) * 16);
        score_offsets = take(ceil_div(token_blocks, 16) * 16);
        size = at;
    }
};

// Lanes below n keep x; the others become -infinity: neutral for the maximum, and e^-inf = 0.
CNNRT_INLINE f32x16 first_or_lowest(f32x16 x, int n) {
    static constexpr float kLane[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    return select(less(load(kLane), broadcast(static_cast<float>(n))), x,
                  broadcast(-__builtin_inff()));
}

// One row of scores, in vectors `step` floats apart, to e^(s - m); returns 1 / their sum.
float exponentials(float* s, int64_t step, int64_t blocks, int last_lanes, const float* mask,
                   int64_t mask_step) {
    float* last = s + (blocks - 1) * step;
    f32x16 m = broadcast(-__builtin_inff());
    for (float* p = s; p <= last; p += step) {
        const int lanes = p == last ? last_lanes : 16;
        f32x16 x = load(p);
        if (mask) {
            x = add(x, mask_step == 0 ? broadcast(*mask) : load_partial(mask, lanes));
            mask += 16 * mask_step;
        }
        if (lanes < 16) x = first_or_lowest(x, lanes);
        if (mask || lanes < 16) store(p, x);
        m = max(m, x);
    }
    const float top = largest(m);
    m = broadcast(top == -__builtin_inff() ? 0.0f : top);
    f32x16 total = zero();
    for (float* p = s; p <= last; p += step) {
        const f32x16 e = exp(sub(load(p), m));
        store(p, e);
        total = add(total, e);
    }
    const float t = sum(total);
    return t == 0 ? 0.0f : 1.0f / t;
}

void scale_row(float* y, int64_t columns, float factor) {
    const f32x16 f = broadcast(factor);
    int64_t i = 0;
    for (; i + 16 <= columns; i += 16) store(y + i, mul(load(y + i), f));
    if (i < columns) {
        const int rest = static_cast<int>(columns - i);
        store_partial(y + i, rest, mul(load_partial(y + i, rest), f));
    }
}

}  // namespace

void attention(const AttentionArgs& g, const Context& context, int64_t begin, int64_t end) {
    const Layout layout(g);
    float* scratch = reinterpret_cast<float*>(context.scratch);
    float *keys = scratch + layout.keys, *values = scratch + layout.values;
    float *queries = scratch + layout.queries, *scores = scratch + layout.scores;
    float* factors = scratch + layout.factors;
    int32_t* query_offsets = reinterpret_cast<int32_t*>(scratch + layout.query_offsets);
    int32_t* score_offsets = reinterpret_cast<int32_t*>(scratch + layout.score_offsets);
    const int last_token = static_cast<int>(g.tokens - (layout.token_blocks - 1) * 16);
    const Chunks chunks(g.rows, layout.tiles);

    Product qk, sv;
    qk.a = queries;
    qk.depth = g.depth;
    qk.offsets = query_offsets;
    qk.panels = keys;
    qk.blocks = layout.token_blocks;
    qk.y = scores;
    qk.y_row = 16;
    sv.a = scores;
    sv.depth = g.tokens;
    sv.offsets = score_offsets;
    sv.panels = values;
    sv.blocks = layout.column_blocks;
    sv.last_lanes = static_cast<int>(g.columns - (layout.column_blocks - 1) * 16);
    sv.y_row = g.y_stride[2];

    const float *packed_k = nullptr, *packed_v = nullptr;
    for (int64_t task = begin; task < end; ++task) {
        const int64_t row = chunks.first(task % chunks.count);
        const int64_t rows = chunks.first(task % chunks.count + 1) - row;
        const int64_t head = task / chunks.count % g.heads, n = task / chunks.count / g.heads;
        const int64_t source = head / g.group;
        const float* q = context.at(g.q) + n * g.q_stride[0] + head * g.q_stride[1];
        const float* k = context.at(g.k) + n * g.k_stride[0] + source * g.k_stride[1];
        const float* v = context.at(g.v) + n * g.v_stride[0] + source * g.v_stride[1];
        if (k != packed_k || v != packed_v) {
            pack_panels(k, g.k_stride[3], g.k_stride[2], g.depth, g.tokens, keys);
            pack_panels(v, g.v_stride[2], g.v_stride[3], g.tokens, g.columns, values);
            packed_k = k;
            packed_v = v;
        }
        qk.rows = sv.rows = rows;
        qk.y_block = rows * 16;
        block_rows(q + row * g.q_stride[2], g.q_stride[2], rows, g.depth, g.scale, queries);
        block_offsets(rows, g.depth, query_offsets);
        block_offsets(rows, g.tokens, score_offsets);
        multiply(qk);

        const float* mask = context.at(g.mask);
        if (mask) mask += n * g.mask_stride[0] + head * g.mask_stride[1] + row * g.mask_stride[2];
        for (int64_t r = 0; r < rows; ++r)
            factors[r] =
                exponentials(scores + r * 16, rows * 16, layout.token_blocks, last_token,
                             mask ? mask + r * g.mask_stride[2] : nullptr, g.mask_stride[3]);

        sv.y = context.at(g.y) + n * g.y_stride[0] + head * g.y_stride[1] + row * g.y_stride[2];
        multiply(sv);
        for (int64_t r = 0; r < rows; ++r) scale_row(sv.y + r * sv.y_row, g.columns, factors[r]);
    }
}

int64_t attention_tasks(const AttentionArgs& g) {
    return int64_t{g.n} * g.heads * Chunks(g.rows, Layout(g).tiles).count;
}

int64_t attention_scratch(const AttentionArgs& g) { return Layout(g).size * 4; }

}  // namespace cnnrt::CNNRT_ISA
