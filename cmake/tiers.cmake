# The instruction-set tiers and the flags that they are compiled with. The including file defines
#
#   cnnrt_tier(<name> <flags>...)              all kernels, for one tier
#   cnnrt_overlay(<tier> <name> <flags>...)    its integer kernels once more, with further flags
#
# Their names are those of cpp/tiers.def, which says what processors run them.
cnnrt_tier(portable)
if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
  # -mtune=znver3 schedules best for Zen 4 and 5 too, and keeps the register tile free of spills
  # where GCC 12's default tuning has three.
  cnnrt_tier(avx2 -march=x86-64-v3 -mtune=znver3)
  cnnrt_overlay(avx2 vnni -mavxvnni)
  if(CNNRT_AVX512_BY_HALVES)
    cnnrt_tier(avx512 -march=x86-64-v3 -DCNNRT_BY_HALVES)
  else()
    cnnrt_tier(avx512 -march=x86-64-v4 -mtune=znver3)
    cnnrt_overlay(avx512 vnni -mavx512vnni)
    cnnrt_overlay(avx512 vbmi -mavx512vnni -mavx512vbmi)
  endif()
elseif(CMAKE_SYSTEM_PROCESSOR MATCHES "aarch64|arm64")
  cnnrt_tier(neon)
  cnnrt_overlay(neon dotprod -march=armv8.2-a+dotprod)
  cnnrt_overlay(neon i8mm -march=armv8.2-a+dotprod+i8mm)
endif()
