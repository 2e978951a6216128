{
  'targets': [{
    'target_name': 'tunsock',
    'conditions': [
      ['OS=="linux"', {
        'sources': [
          'src/native/module.cc',
          'src/native/binding/link_binding.cc',
          'src/native/binding/netns_binding.cc',
          'src/native/core/host/netns.cc',
          'src/native/core/host/rtnetlink.cc',
          'src/native/core/offload/checksum.cc',
          'src/native/core/offload/gro_table.cc',
          'src/native/core/offload/gso_split.cc',
          'src/native/core/offload/packet_view.cc',
        ],
        'include_dirs': ['src/native', '<!(node -p "require(\'node-addon-api\').include_dir")'],
        'defines': ['NAPI_VERSION=9', 'NODE_ADDON_API_DISABLE_DEPRECATED', 'NAPI_DISABLE_CPP_EXCEPTIONS'],
        'cflags_cc': ['-std=c++17', '-O3', '-Wall', '-Wextra', '-Wshadow', '-fno-exceptions', '-fvisibility=hidden'],
        'cflags_cc!': ['-std=gnu++17', '-std=gnu++20'],
      }, {
        # Nothing to build elsewhere: importing works, opening says that Linux is needed.
        'type': 'none',
      }],
    ],
  }],
}
