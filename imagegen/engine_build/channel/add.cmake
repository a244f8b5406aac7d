# Links channel.cpp and upscale.cpp into sd-server: -DCMAKE_PROJECT_INCLUDE=<this file>. The engine's own files stay as
# they are.
# The wrap flags stand on the target: in CMAKE_EXE_LINKER_FLAGS they would break CMake's compiler checks.
function(add_imagegen_channel)
  set(sources ${CMAKE_CURRENT_FUNCTION_LIST_DIR}/channel.cpp ${CMAKE_CURRENT_FUNCTION_LIST_DIR}/upscale.cpp)
  target_sources(sd-server PRIVATE ${sources})
  target_link_libraries(sd-server PRIVATE ggml)
  set_source_files_properties(${sources} TARGET_DIRECTORY sd-server PROPERTIES
                              COMPILE_OPTIONS "-std=c++17;-Wall;-Wextra;-Werror")
  foreach(symbol main generate_image sd_set_log_callback ggml_backend_graph_compute bind _Z21pretty_bytes_progressiimf)
    target_link_options(sd-server PRIVATE "-Wl,--wrap=${symbol}")
  endforeach()
endfunction()

if(PROJECT_IS_TOP_LEVEL)  # this file is included after every project(), also those of subdirectories
  cmake_language(DEFER DIRECTORY ${CMAKE_SOURCE_DIR} CALL add_imagegen_channel)
endif()
