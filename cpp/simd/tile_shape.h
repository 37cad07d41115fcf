// The shape of the register tiles on each tier: how many pixels x blocks of 16 outputs stay in
// registers while the depth is walked.
#pragma once

#include <cstdint>

namespace cnnrt {
struct Float16;
struct BFloat16;
}  // namespace cnnrt

namespace cnnrt::CNNRT_ISA {
namespace {

struct TileShape {
    int rows, blocks;              // of the tile of kernels/tile.h
    int dense_rows, dense_blocks;  // of the same for one or a few rows of a plain matrix
    int steps;                     // of depth between two branches

    // Vectors of sums, the weights of one step, and one broadcast fit `registers` registers of
    // which `per_vector` hold 16 sums. The dense tile reads weights as memory operands if it must.
    constexpr bool fits(int registers, int per_vector) const {
        return (rows * blocks + blocks) * per_vector + 1 <= registers &&
               dense_rows * dense_blocks * per_vector + 2 <= registers;
    }
};

// The tile of kernels/depthwise.cpp. 7 columns fill 14 of 16 ymm, and divide the usual widths.
struct DepthwiseShape {
    int rows, columns;  // of the output
    // Square kernels load a row of inputs once for all taps and both output rows. With 16 registers
    // kept inputs or a second row would be spilled: inputs are then loaded for every tap.
    bool keeps_inputs;
};

// By element types. Types that a tier does not list have no rows, and tile.h does not compile.
template <class In, class Weight>
constexpr TileShape kTileShape{};

#if defined(CNNRT_ISA_AVX512)
template <>
constexpr TileShape kTileShape<float, float>{14, 2, 6, 4, 1};
#if defined(__AVX512VNNI__)
template <>
constexpr TileShape kTileShape<uint8_t, int8_t>{14, 2, 6, 4, 1};
#else
// Each product needs both halves of the input and of the weights, and two temporaries.
template <>
constexpr TileShape kTileShape<uint8_t, int8_t>{6, 1, 3, 2, 1};
#endif
template <>
constexpr TileShape kTileShape<float, Float16>{6, 4, 6, 4, 1};
// Each block of weights has a register of scales.
template <>
constexpr TileShape kTileShape<float, int8_t>{5, 4, 5, 4, 1};
// 14 sums, up to 13 inputs and 2 weights.
constexpr DepthwiseShape kDepthwiseShape{2, 7, true};
constexpr int kRegisters = 32, kRegistersPerVector = 1;
#elif defined(CNNRT_ISA_AVX2)
// A step is 20 instructions, to which a loop would add 3.
template <>
constexpr TileShape kTileShape<float, float>{6, 1, 3, 2, 4};
#if defined(__AVXVNNI__)
template <>
constexpr TileShape kTileShape<uint8_t, int8_t>{6, 1, 3, 2, 4};
#else
template <>
constexpr TileShape kTileShape<uint8_t, int8_t>{3, 1, 2, 1, 1};
#endif
// Widened weights cannot be memory operands.
template <>
constexpr TileShape kTileShape<float, Float16>{2, 2, 2, 2, 1};
template <>
constexpr TileShape kTileShape<float, int8_t>{2, 2, 2, 2, 1};
constexpr DepthwiseShape kDepthwiseShape{1, 7, false};
constexpr int kRegisters = 16, kRegistersPerVector = 2;
#elif defined(CNNRT_ISA_NEON)
template <>
constexpr TileShape kTileShape<float, float>{6, 1, 3, 2, 1};
template <>
constexpr TileShape kTileShape<uint8_t, int8_t>{4, 1, 2, 2, 1};
template <>
constexpr TileShape kTileShape<float, Float16>{2, 2, 2, 2, 1};
template <>
constexpr TileShape kTileShape<float, int8_t>{3, 1, 3, 1, 1};
constexpr DepthwiseShape kDepthwiseShape{1, 6, false};
constexpr int kRegisters = 32, kRegistersPerVector = 4;
#elif defined(CNNRT_ISA_PORTABLE)
template <>
constexpr TileShape kTileShape<float, float>{2, 1, 2, 1, 1};
template <>
constexpr TileShape kTileShape<uint8_t, int8_t>{2, 1, 2, 1, 1};
template <>
constexpr TileShape kTileShape<float, Float16>{2, 1, 2, 1, 1};
template <>
constexpr TileShape kTileShape<float, int8_t>{1, 1, 1, 1, 1};
constexpr DepthwiseShape kDepthwiseShape{1, 2, false};
constexpr int kRegisters = 16, kRegistersPerVector = 4;
#else
#error "this tier has no tile shapes"
#endif

template <>
constexpr TileShape kTileShape<float, BFloat16> = kTileShape<float, Float16>;

static_assert(kTileShape<float, float>.fits(kRegisters, kRegistersPerVector));
static_assert(kTileShape<uint8_t, int8_t>.fits(kRegisters, kRegistersPerVector));
static_assert(kTileShape<float, Float16>.fits(kRegisters, kRegistersPerVector));
static_assert(kTileShape<float, int8_t>.fits(kRegisters, kRegistersPerVector));

// The shape for float32, for kernels that have no other type.
constexpr int kTileRows = kTileShape<float, float>.rows;
constexpr int kTileBlocks = kTileShape<float, float>.blocks;
constexpr int kDenseRows = kTileShape<float, float>.dense_rows;
constexpr int kDenseBlocks = kTileShape<float, float>.dense_blocks;

}  // namespace
}  // namespace cnnrt::CNNRT_ISA
