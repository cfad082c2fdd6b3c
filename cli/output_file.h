// Where an answer goes: to standard output, or into a file that is there whole or not at all.
#pragma once

#include <string>

namespace heapcore {

// Writes beside the file, under another name, and renames when all is written; a half-written file is removed, also
// when a signal ends the program (end_cleanly_on_signals()). What is no regular file is written straight.
class OutputFile {
 public:
  // Empty: standard output.
  explicit OutputFile(std::string path) : path_(std::move(path)) {}
  ~OutputFile();
  OutputFile(const OutputFile&) = delete;
  OutputFile& operator=(const OutputFile&) = delete;

  // Each returns false, with a message on standard error, if it cannot.
  bool open();
  // REQUIRES: open() was called, and all is written at once.
  bool write(const std::string& text);

 private:
  bool complain(const std::string& what, int number) const;

  std::string path_;
  std::string final_path_;      // path_, links followed
  std::string temporary_path_;  // empty where it is written straight
  int descriptor_ = -1;
};

// From now on SIGINT, SIGTERM and SIGHUP end the program at once with 128 and their number, after the terminal's line
// of progress and the file that is being written have gone. What was to be ignored stays ignored.
void end_cleanly_on_signals();

}  // namespace heapcore
