// Windows names files in UTF-16, the library in UTF-8.
#pragma once

#ifdef _WIN32
#ifndef NOMINMAX
#define NOMINMAX
#endif
#include <windows.h>

#include <string>

namespace littlefoot {

inline std::wstring wide(const std::string& text) {
    const int length = static_cast<int>(text.size());
    std::wstring made(static_cast<size_t>(MultiByteToWideChar(CP_UTF8, 0, text.data(), length, nullptr, 0)), L'\0');
    MultiByteToWideChar(CP_UTF8, 0, text.data(), length, made.data(), static_cast<int>(made.size()));
    return made;
}

inline std::string narrow(const std::wstring& text) {
    const int length = static_cast<int>(text.size());
    const int size = WideCharToMultiByte(CP_UTF8, 0, text.data(), length, nullptr, 0, nullptr, nullptr);
    std::string made(static_cast<size_t>(size), '\0');
    WideCharToMultiByte(CP_UTF8, 0, text.data(), length, made.data(), size, nullptr, nullptr);
    return made;
}

}  // namespace littlefoot

#endif
