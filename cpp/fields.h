// FIELDS(visit, args, a, b, c) expands to visit("a", args.a), visit("b", args.b), ...
#pragma once

#define CNNRT_PARENS ()
#define CNNRT_EXPAND(...) CNNRT_EXPAND3(CNNRT_EXPAND3(CNNRT_EXPAND3(__VA_ARGS__)))
#define CNNRT_EXPAND3(...) CNNRT_EXPAND2(CNNRT_EXPAND2(CNNRT_EXPAND2(__VA_ARGS__)))
#define CNNRT_EXPAND2(...) CNNRT_EXPAND1(CNNRT_EXPAND1(CNNRT_EXPAND1(__VA_ARGS__)))
#define CNNRT_EXPAND1(...) __VA_ARGS__

#define CNNRT_FIELDS(visit, args, ...) CNNRT_EXPAND(CNNRT_FIELDS_STEP(visit, args, __VA_ARGS__))
#define CNNRT_FIELDS_STEP(visit, args, field, ...) \
    visit(#field, args.field);                     \
    __VA_OPT__(CNNRT_FIELDS_AGAIN CNNRT_PARENS(visit, args, __VA_ARGS__))
#define CNNRT_FIELDS_AGAIN() CNNRT_FIELDS_STEP
