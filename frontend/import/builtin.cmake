# builtin.cmake: puts models/aquila/configs/*.json into the program as builtin_configs.c (struct aq_builtin_config of internal.h), so
# that NAME:random needs no file. The folder is the only list: a new config is a new file there.
file(GLOB configs CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/models/aquila/configs/*.json)
set(rows "")
foreach(config ${configs})
  set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${config})
  get_filename_component(name ${config} NAME_WE)
  file(READ ${config} json)
  string(REPLACE "\\" "\\\\" json "${json}")
  string(REPLACE "\"" "\\\"" json "${json}")
  string(REPLACE "\n" "\\n\"\n     \"" json "${json}")
  string(APPEND rows "    {\"${name}\",\n     \"${json}\"},\n")
endforeach()
file(CONFIGURE OUTPUT ${CMAKE_BINARY_DIR}/generated/builtin_configs.c @ONLY CONTENT
"/* made by frontend/import/builtin.cmake */
#include \"frontend/import/internal.h\"

const aq_builtin_config aq_builtin_configs[] = {
@rows@    {0, 0},
};
")
target_sources(aq_frontend PRIVATE ${CMAKE_BINARY_DIR}/generated/builtin_configs.c)
