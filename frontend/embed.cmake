# embed.cmake: puts text files into the program as a C table {name without extension, text}, ended by {0, 0}; the folder is the only
# list: a new file there is a new row.
#   aq_embed(FILES folder/*.ext HEADER header.h TYPE struct ARRAY name)
function(aq_embed)
  cmake_parse_arguments(arg "" "FILES;HEADER;TYPE;ARRAY" "" ${ARGN})
  file(GLOB files CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/${arg_FILES})
  set(rows "")
  foreach(file ${files})
    set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${file})
    get_filename_component(name ${file} NAME_WE)
    file(READ ${file} text)
    string(REPLACE "\\" "\\\\" text "${text}")
    string(REPLACE "\"" "\\\"" text "${text}")
    string(REPLACE "\n" "\\n\"\n     \"" text "${text}")
    string(APPEND rows "    {\"${name}\",\n     \"${text}\"},\n")
  endforeach()
  file(CONFIGURE OUTPUT ${CMAKE_BINARY_DIR}/generated/${arg_ARRAY}.c @ONLY CONTENT
"/* made by frontend/embed.cmake */
#include \"@arg_HEADER@\"

const @arg_TYPE@ @arg_ARRAY@[] = {
@rows@    {0, 0},
};
")
  target_sources(aq_frontend PRIVATE ${CMAKE_BINARY_DIR}/generated/${arg_ARRAY}.c)
endfunction()

# Built-in architectures, so that NAME:random needs no file; model texts, so that compiling needs none.
aq_embed(FILES models/aquila/configs/*.json HEADER frontend/import/internal.h TYPE aq_builtin_config ARRAY aq_builtin_configs)
aq_embed(FILES models/aquila/*.aq HEADER frontend/compile.h TYPE aq_model_text ARRAY aq_model_texts)
