// Checks the integer vocabulary of a tier, and the register tile over integers, against plain
// loops. One program for each tier and overlay; prints what is wrong and returns 1.
#include <cstdio>
#include <random>
#include <vector>

#include "kernels/tile.h"

namespace cnnrt::CNNRT_ISA {
namespace {

int faults = 0;
std::mt19937 generator(7);

void check(bool right, const char* what, int64_t place) {
    if (right) return;
    std::printf("%s: wrong at %lld\n", what, static_cast<long long>(place));
    faults = 1;
}

// Random bytes; every fourth is an extreme value of u8 or i8.
template <class T>
std::vector<T> bytes(size_t n) {
    const int extremes[] = {0, 255, 128, 127};
    std::vector<T> v(n);
    for (T& x : v) {
        const unsigned r = generator();
        x = static_cast<T>(r % 4 ? r >> 8 : static_cast<unsigned>(extremes[r / 4 % 4]));
    }
    return v;
}

// Sums wrap.
int32_t plus(int32_t a, int32_t b) {
    return static_cast<int32_t>(static_cast<uint32_t>(a) + static_cast<uint32_t>(b));
}

std::vector<int32_t> stored(i32x16 a) {
    std::vector<int32_t> v(16);
    store_i32(v.data(), a);
    return v;
}
std::vector<uint8_t> stored(u8x64 a) {
    std::vector<uint8_t> v(64);
    store_u8(v.data(), a);
    return v;
}

void check_dot() {
    for (int round = 0; round < 200; ++round) {
        auto x = bytes<uint8_t>(64);
        auto w = bytes<int8_t>(64);
        if (round < 4) {  // all products the largest, or the smallest
            x.assign(64, 255);
            w.assign(64, round % 2 ? -128 : 127);
        }
        std::vector<int32_t> start(16);
        for (int32_t& s : start) s = static_cast<int32_t>(generator());
        i32x16 sum = load_i32(start.data()), same = sum;
        dot4(sum, load_u8(x.data()), load_i8(w.data()));
        dot4(same, broadcast4(x.data() + 20), load_i8(w.data()));
        const auto got = stored(sum), broadcasted = stored(same);
        for (int i = 0; i < 16; ++i) {
            int32_t want = start[i], want_same = start[i];
            for (int k = i * 4; k < i * 4 + 4; ++k) {
                want = plus(want, x[k] * w[k]);
                want_same = plus(want_same, x[20 + k % 4] * w[k]);
            }
            check(got[i] == want, "dot4", i);
            check(broadcasted[i] == want_same, "broadcast4", i);
        }
    }
}

void check_bytes() {
    const auto table = bytes<uint8_t>(256);
    for (int round = 0; round < 100; ++round) {
        const auto a = bytes<uint8_t>(64), b = bytes<uint8_t>(64);
        const u8x64 x = load_u8(a.data()), y = load_u8(b.data());
        const auto low = stored(min(x, y)), high = stored(max(x, y));
        const auto quads = stored(quads_of_pixels(a.data())),
                   values = stored(lookup(table.data(), x));
        const auto wide = stored(widen(a.data() + round % 40));
        const int8_t* signed_bytes = reinterpret_cast<const int8_t*>(a.data()) + round % 40;
        const auto wide_signed = stored(widen(signed_bytes));
        for (int i = 0; i < 64; ++i) {
            check(low[i] == (a[i] < b[i] ? a[i] : b[i]), "min", i);
            check(high[i] == (a[i] > b[i] ? a[i] : b[i]), "max", i);
            check(quads[i] == a[i % 4 * 16 + i / 4], "quads_of_pixels", i);
            check(values[i] == table[a[i]], "lookup", i);
            if (i < 16) check(wide[i] == a[round % 40 + i], "widen", i);
            if (i < 16) check(wide_signed[i] == signed_bytes[i], "widen of signed bytes", i);
        }
    }
}

void check_pack() {
    for (int round = 0; round < 200; ++round) {
        const int zero = round % 4 == 0   ? 0
                         : round % 4 == 1 ? 255
                                          : static_cast<int>(generator() % 256);
        std::vector<int32_t> v(64);
        for (int32_t& x : v) {
            const unsigned r = generator();
            x = r % 8 == 0   ? INT32_MAX
                : r % 8 == 1 ? INT32_MIN
                : r % 8 == 2 ? static_cast<int32_t>(r)
                             : static_cast<int32_t>(r >> 8 & 1023) - 512;
        }
        const auto got = stored(
            pack4(load_i32(&v[0]), load_i32(&v[16]), load_i32(&v[32]), load_i32(&v[48]), zero));
        for (int i = 0; i < 64; ++i) {
            const int64_t wide = int64_t{v[i]} + zero;
            check(got[i] == (wide < 0 ? 0 : wide > 255 ? 255 : wide), "pack4", i);
        }
    }
}

void check_conversions() {
    // Halves go to the even neighbour; floats have 24 bits.
    const float x[16] = {0.5f,        1.5f,  2.5f,         -0.5f,        -1.5f,      -2.5f,
                         0.49999997f, -0.0f, 3.0f,         1e6f,         8388607.5f, -8388609.f,
                         1e9f,        -1e9f, 2147483520.f, -2147483648.f};
    const int32_t want[16] = {0,          2,           2,          0,        -2,      -2,
                              0,          0,           3,          1000000,  8388608, -8388609,
                              1000000000, -1000000000, 2147483520, INT32_MIN};
    const auto got = stored(to_int(load(x)));
    const int32_t whole[16] = {0,         1,         -1,  16777217, 16777219, -16777217,
                               INT32_MAX, INT32_MIN, 255, -128,     65280,    7,
                               8,         9,         10,  11};
    float back[16];
    store(back, to_float(load_i32(whole)));
    const auto sum = stored(add(load_i32(whole), broadcast_i32(3)));
    for (int i = 0; i < 16; ++i) {
        check(got[i] == want[i], "to_int", i);
        check(back[i] == static_cast<float>(whole[i]), "to_float", i);
        check(sum[i] == plus(whole[i], 3), "add", i);
    }
}

// Stores the sums as they are.
struct SumOutput {
    using In = uint8_t;
    using Weight = int8_t;
    using Out = int32_t;

    int32_t* y;
    int64_t y_row, y_block, y_split;

    template <int ROWS, int BLOCKS, int SPLIT>
    void prefetch() const {}
    template <int SPLIT, bool PARTIAL, int ROWS, int BLOCKS>
    void finish(i32x16 (&acc)[ROWS][BLOCKS]) const {
#pragma GCC unroll 32
        for (int m = 0; m < ROWS; ++m)
#pragma GCC unroll 4
            for (int o = 0; o < BLOCKS; ++o)
                store_i32(y + row<SPLIT>(m, y_row, y_split) + o * y_block, acc[m][o]);
    }
};

// A tile of `rows` pixels `step` apart, 9 taps of 16 channels and 3 of 10 (whose last step is
// half).
template <int BLOCKS, int STEP>
void check_tile() {
    using T = Tile<SumOutput>;
    static constexpr TileTable<T, T::kShape.rows, BLOCKS, STEP, false> kTiles;
    constexpr int kStep = STEP ? STEP : 48, kTaps = 9, kLast = 3, kLastSteps = 3;
    constexpr int kSteps = kTaps * 4 + kLast * kLastSteps, kPanel = kSteps * 64;
    const auto x = bytes<uint8_t>(16 * 1024);
    auto w = bytes<int8_t>(size_t{BLOCKS} * kPanel);
    for (int o = 0; o < BLOCKS; ++o)  // channels 10 and 11 do not exist
        for (int i = 0; i < kLast; ++i)
            for (int m = 0; m < 16; ++m)
                for (int k = 2; k < 4; ++k)
                    w[o * kPanel + (kTaps * 4 + i * kLastSteps + 2) * 64 + m * 4 + k] = 0;
    int32_t offsets[kTaps + kLast];
    for (int i = 0; i < kTaps + kLast; ++i) offsets[i] = i * 16 * 37;
    std::vector<int32_t> bias(BLOCKS * 16);
    for (int32_t& b : bias) b = static_cast<int32_t>(generator() >> 8);
    for (int rows = 1; rows <= T::kShape.rows; ++rows) {
        std::vector<int32_t> y(BLOCKS * 16 * rows);
        T t{};
        t.y = y.data();
        t.y_row = 16;
        t.y_block = 16 * rows;
        t.a = x.data();
        t.a_step = kStep;
        t.offsets = offsets;
        t.taps = kTaps;
        t.last_taps = kLast;
        t.last_steps = kLastSteps;
        t.b = w.data();
        t.b_block = kPanel;
        t.bias = bias.data();
        kTiles.of_rows[rows](t);
        for (int o = 0; o < BLOCKS; ++o)
            for (int m = 0; m < rows; ++m)
                for (int l = 0; l < 16; ++l) {
                    int32_t want = bias[o * 16 + l];
                    for (int i = 0, s = 0; i < kTaps + kLast; ++i)
                        for (int k = 0; k < (i < kTaps ? 4 : kLastSteps); ++k, ++s)
                            for (int j = 0; j < 4; ++j)
                                want = plus(want, x[offsets[i] + m * kStep + k * 4 + j] *
                                                      w[o * kPanel + s * 64 + l * 4 + j]);
                    check(y[(o * rows + m) * 16 + l] == want, "tile", rows * 1000 + m * 16 + l);
                }
    }
}

}  // namespace

int run() {
    check_dot();
    check_bytes();
    check_pack();
    check_conversions();
    check_tile<1, 16>();
    check_tile<1, 32>();
    check_tile<1, 0>();
    check_tile<kTileShape<uint8_t, int8_t>.blocks, 16>();
    return faults;
}

}  // namespace cnnrt::CNNRT_ISA

int main() { return cnnrt::CNNRT_ISA::run(); }
