// The last check of a step before it joins a plan: all memory that it reads or writes must exist.
//
// Kernels believe their fields. bounds.cpp states their effect once more: the first and the last
// element that each field is used at. Both must lie within the buffer that the planner made, and no
// number may overflow on the way.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/args.h"

namespace cnnrt {

// A kernel would use memory outside of a buffer, or a field is out of range.
struct OutOfBounds : std::runtime_error {
    using std::runtime_error::runtime_error;
};

// An integer whose arithmetic throws OutOfBounds instead of overflowing.
class Checked {
public:
    Checked(int64_t value) : value_(value) {}  // NOLINT: fields become operands
    int64_t value() const { return value_; }

    friend Checked operator+(Checked a, Checked b) {
        Checked sum(0);
        if (__builtin_add_overflow(a.value_, b.value_, &sum.value_)) overflow();
        return sum;
    }
    friend Checked operator-(Checked a, Checked b) {
        Checked difference(0);
        if (__builtin_sub_overflow(a.value_, b.value_, &difference.value_)) overflow();
        return difference;
    }
    friend Checked operator*(Checked a, Checked b) {
        Checked product(0);
        if (__builtin_mul_overflow(a.value_, b.value_, &product.value_)) overflow();
        return product;
    }
    friend auto operator<=>(Checked a, Checked b) { return a.value_ <=> b.value_; }
    friend bool operator==(Checked a, Checked b) { return a.value_ == b.value_; }

private:
    [[noreturn]] static void overflow();
    int64_t value_;
};

struct Axis {
    Checked size, stride;
};
using Axes = std::vector<Axis>;

// The memory of a step's fields, as the planner placed it, and checks of a kernel's use of it.
class Bounds {
public:
    // Places a field of the arguments: `offset` bytes from the beginning of a buffer of `bytes`, in
    // elements of `itemsize`. An absent field has no place. Nor has an address that the caller
    // gives as a number; that is not checked.
    void place(const Ref& field, std::string_view name, int64_t offset, int64_t bytes,
               int64_t itemsize) {
        places_.push_back({&field, name, offset, bytes, itemsize});
    }

    // Each of these throws OutOfBounds unless the kernel may use that part of a field.
    // Elements [low, high) of `size` bytes.
    void use(const Ref& field, Checked low, Checked high, int64_t size = sizeof(float)) const;
    void first(const Ref& field, Checked count, int64_t size = sizeof(float)) const {
        use(field, 0, count, size);
    }
    void strided(const Ref& field, const Axes& axes, int64_t size = sizeof(float)) const;
    // All pixels of a blocked tensor.
    void pixels(const View& field, Checked n, Checked blocks, Checked d, Checked h,
                Checked w) const;
    // The first `count` entries of a table of integers.
    const int32_t* table(const Ref& field, Checked count) const;
    // The bytes of an element of a tensor, or those of a float if it has no place.
    int64_t itemsize(const View& field) const;
    // True if the elements of a tensor are of this size, or if it has no place.
    bool holds(const View& field, int64_t itemsize) const;

private:
    struct Place {
        const Ref* field;
        std::string_view name;
        int64_t offset, bytes, itemsize;
    };
    const Place* find(const Ref& field) const;
    std::vector<Place> places_;
};

// For each kernel: throws OutOfBounds unless a step with these arguments stays within its buffers.
#define KERNEL(name, Args) void name##_bounds(const Args& args, const Bounds& bounds);
#include "kernels/kernels.def"

}  // namespace cnnrt
