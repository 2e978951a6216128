{
  'targets': [{
    'target_name': 'tunsock',
    'conditions': [
      ['OS=="linux"', {
        'sources': [
          'src/native/module.cc',
          'src/native/binding/checksum_binding.cc',
          'src/native/binding/device_binding.cc',
          'src/native/binding/link_binding.cc',
          'src/native/binding/listener.cc',
          'src/native/binding/memory_args.cc',
          'src/native/binding/netns_binding.cc',
          'src/native/binding/packet_args.cc',
          'src/native/binding/poller.cc',
          'src/native/binding/socket_calls.cc',
          'src/native/binding/socket_handle.cc',
          'src/native/binding/socket_watch.cc',
          'src/native/core/device/data_path.cc',
          'src/native/core/device/packet_device.cc',
          'src/native/core/device/tun_device.cc',
          'src/native/core/host/ip_address.cc',
          'src/native/core/host/netlink_message.cc',
          'src/native/core/host/netlink_socket.cc',
          'src/native/core/host/netns.cc',
          'src/native/core/host/rtnetlink.cc',
          'src/native/core/io/held_io.cc',
          'src/native/core/io/offload_io.cc',
          'src/native/core/io/socket_io.cc',
          'src/native/core/io/tun_io.cc',
          'src/native/core/offload/checksum.cc',
          'src/native/core/offload/gro_table.cc',
          'src/native/core/offload/gso_split.cc',
          'src/native/core/offload/packet_view.cc',
        ],
        'include_dirs': ['src/native', '<!(node src/native/headers.js)'],
        'defines': ['NAPI_VERSION=9', 'NODE_ADDON_API_DISABLE_DEPRECATED', 'NAPI_DISABLE_CPP_EXCEPTIONS',
          # In a Worker that is being terminated nothing can be thrown; without this the whole process would abort.
          'NODE_API_SWALLOW_UNTHROWABLE_EXCEPTIONS'],
        'cflags_cc': ['-std=c++17', '-O3', '-Wall', '-Wextra', '-fno-exceptions', '-fvisibility=hidden'],
        'cflags_cc!': ['-std=gnu++17', '-std=gnu++20'],
      }, {
        # Nothing to build elsewhere: importing works, opening says that Linux is needed.
        'type': 'none',
      }],
    ],
  }],
}
