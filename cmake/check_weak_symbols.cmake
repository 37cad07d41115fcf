# Fails if an object of an instruction-set tier holds a weak symbol: the linker keeps one copy of each,
# perhaps the one compiled for AVX-512, and calls it on machines without. Run with -P after a build.
foreach(object IN LISTS OBJECTS)
  execute_process(COMMAND "${NM}" "${object}" OUTPUT_VARIABLE symbols RESULT_VARIABLE failed)
  if(failed)
    message(FATAL_ERROR "${NM} cannot read ${object}")
  endif()
  string(REGEX MATCHALL "[^\n]* [WVu] [^\n]*" weak "${symbols}")
  if(weak)
    list(JOIN weak "\n  " lines)
    message(FATAL_ERROR "weak symbols in ${object}:\n  ${lines}\n"
                        "Kernel sources may only define functions in an unnamed namespace.")
  endif()
endforeach()
