# The target lightgrad::lightgrad from every room under lightgrad/, and how it is installed.
set(rooms base kernels backend backend/cuda tensor autograd ops nn optim amp data io graph profile)
set(lightgrad_sources)
set(lightgrad_headers)
set(hidden_sources)  # rooms that no user calls: not in the shared library's interface
foreach(room IN LISTS rooms)
  set(at "${PROJECT_SOURCE_DIR}/lightgrad/${room}")
  file(GLOB sources CONFIGURE_DEPENDS "${at}/*.cpp")
  file(GLOB headers CONFIGURE_DEPENDS "${at}/*.h" "${at}/*.inl")
  list(APPEND lightgrad_sources ${sources})
  list(APPEND lightgrad_headers ${headers})
  if(room MATCHES "^(kernels|backend|backend/cuda)$")
    list(APPEND hidden_sources ${sources})
  endif()
endforeach()
file(GLOB headers CONFIGURE_DEPENDS "${PROJECT_SOURCE_DIR}/lightgrad/*.h")
list(APPEND lightgrad_headers ${headers})

add_library(lightgrad ${lightgrad_sources})
add_library(lightgrad::lightgrad ALIAS lightgrad)
target_compile_features(lightgrad PUBLIC cxx_std_20)
target_sources(lightgrad PUBLIC FILE_SET HEADERS BASE_DIRS "${PROJECT_SOURCE_DIR}" FILES ${lightgrad_headers})
target_link_libraries(lightgrad PUBLIC Threads::Threads
  PRIVATE hwy::hwy ZLIB::ZLIB ${CMAKE_DL_LIBS} $<BUILD_INTERFACE:lightgrad_options> $<BUILD_INTERFACE:nlohmann_json::nlohmann_json>)
set_target_properties(lightgrad PROPERTIES VERSION ${PROJECT_VERSION} SOVERSION ${PROJECT_VERSION_MAJOR})

# Visibility. In the static library every symbol is hidden: a program or an extension module that links it exports
# nothing of it. The shared library exports namespace lg by a version script and hides the rest (kernels, backends,
# instantiated std and third-party code), so no class needs an annotation.
if(BUILD_SHARED_LIBS)
  set_property(SOURCE ${hidden_sources} APPEND PROPERTY COMPILE_OPTIONS -fvisibility=hidden)
  target_compile_options(lightgrad PRIVATE -fno-semantic-interposition)
  target_link_options(lightgrad PRIVATE -Wl,-Bsymbolic-functions -Wl,--no-undefined
    "-Wl,--version-script=${PROJECT_SOURCE_DIR}/cmake/exports.map")
  set_property(TARGET lightgrad APPEND PROPERTY LINK_DEPENDS "${PROJECT_SOURCE_DIR}/cmake/exports.map")
else()
  set_target_properties(lightgrad PROPERTIES CXX_VISIBILITY_PRESET hidden VISIBILITY_INLINES_HIDDEN ON)
endif()

include(CMakePackageConfigHelpers)
set(package_dir "${CMAKE_INSTALL_LIBDIR}/cmake/lightgrad")
configure_package_config_file("${PROJECT_SOURCE_DIR}/cmake/lightgrad-config.cmake.in"
  "${PROJECT_BINARY_DIR}/lightgrad-config.cmake" INSTALL_DESTINATION "${package_dir}")
write_basic_package_version_file("${PROJECT_BINARY_DIR}/lightgrad-config-version.cmake"
  COMPATIBILITY SameMinorVersion)
if(BUILD_SHARED_LIBS)
  set(pc_requires "Requires.private")
else()
  set(pc_requires "Requires")  # a static archive does not name what it needs
endif()
if(ZLIB_FOUND)
  set(pc_zlib ", zlib")
else()
  set(pc_zlib_libs " -llightgrad_zlib")
endif()
file(RELATIVE_PATH pc_to_prefix "/${CMAKE_INSTALL_LIBDIR}/pkgconfig" "/")
configure_file("${PROJECT_SOURCE_DIR}/cmake/lightgrad.pc.in" "${PROJECT_BINARY_DIR}/lightgrad.pc" @ONLY)

install(TARGETS lightgrad EXPORT lightgrad-targets COMPONENT cpp
  LIBRARY COMPONENT cpp ARCHIVE COMPONENT cpp FILE_SET HEADERS COMPONENT cpp)
install(EXPORT lightgrad-targets NAMESPACE lightgrad:: DESTINATION "${package_dir}" COMPONENT cpp)
install(FILES "${PROJECT_BINARY_DIR}/lightgrad-config.cmake" "${PROJECT_BINARY_DIR}/lightgrad-config-version.cmake"
  DESTINATION "${package_dir}" COMPONENT cpp)
install(FILES "${PROJECT_BINARY_DIR}/lightgrad.pc" DESTINATION "${CMAKE_INSTALL_LIBDIR}/pkgconfig" COMPONENT cpp)
