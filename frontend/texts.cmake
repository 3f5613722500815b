# texts.cmake: puts models/aquila/*.aq into the program as model_texts.c (frontend/compile.h), so that compiling needs no file.
file(GLOB texts CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/models/aquila/*.aq)
set(rows "")
foreach(text ${texts})
  set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${text})
  get_filename_component(name ${text} NAME_WE)
  file(READ ${text} body)
  string(REPLACE "\\" "\\\\" body "${body}")
  string(REPLACE "\"" "\\\"" body "${body}")
  string(REPLACE "\n" "\\n\"\n     \"" body "${body}")
  string(APPEND rows "    {\"${name}\",\n     \"${body}\"},\n")
endforeach()
file(CONFIGURE OUTPUT ${CMAKE_BINARY_DIR}/generated/model_texts.c @ONLY CONTENT
"/* made by frontend/texts.cmake */
#include \"frontend/compile.h\"

const aq_model_text aq_model_texts[] = {
@rows@    {0, 0},
};
")
target_sources(aq_frontend PRIVATE ${CMAKE_BINARY_DIR}/generated/model_texts.c)
