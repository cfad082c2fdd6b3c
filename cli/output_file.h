// Where an answer goes: to standard output, or into a file that is there whole or not at all.
#pragma once

#include <string>

namespace heapcore {

// Writes beside the file, under another name, and renames when all is written; a half-written file is removed, also
// when a signal ends the program (end_cleanly_on_signals()). What is no regular file is written straight.
class OutputFile {
 public:
  struct How {
    bool may_replace = true;
    bool is_private = false;  // to be read by its owner only
  };

  // Empty: standard output.
  explicit OutputFile(std::string path) : OutputFile(std::move(path), How()) {}
  OutputFile(std::string path, How how) : path_(std::move(path)), how_(how) {}
  ~OutputFile();
  OutputFile(const OutputFile&) = delete;
  OutputFile& operator=(const OutputFile&) = delete;

  // Each returns false, with a message on standard error, if it cannot.
  bool open();
  // REQUIRES: open() was called, and all is written at once.
  bool write(const std::string& text);
  // Instead of write(): what was written to descriptor() is all.
  bool commit();
  int descriptor() const { return descriptor_; }

 private:
  bool complain(const std::string& what, int number) const;
  bool refuse_to_replace() const;

  std::string path_;
  How how_;
  std::string final_path_;      // path_, links followed
  std::string temporary_path_;  // empty where it is written straight
  int descriptor_ = -1;
};

// From now on SIGINT, SIGTERM and SIGHUP end the program at once with 128 and their number, after the terminal's line
// of progress and the file that is being written have gone. What was to be ignored stays ignored.
void end_cleanly_on_signals();
// Where memory or threads run out in a thread of a library's, nobody can catch it: the program ends likewise, with
// kUnreadable and a message.
void end_cleanly_on_exceptions();

}  // namespace heapcore
