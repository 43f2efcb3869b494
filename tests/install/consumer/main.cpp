// Loads a model with the installed libraries and says what it is.   consumer FOLDER
#include <depthlens/run/session.hpp>
#include <depthlens/util/version.hpp>
#include <exception>
#include <iostream>

int main(int argc, char** argv) {
  try {
    depthlens::run::ModelOptions options;
    options.folder = argc > 1 ? argv[1] : depthlens::run::demo_model();
    const depthlens::run::Session session(options);
    std::cout << "depthlens " << DEPTHLENS_VERSION << ", " << session.spec().num_layers << " blocks, "
              << session.spec().vocab_size << " tokens\n";
    return 0;
  } catch (const std::exception& error) {
    std::cerr << error.what() << '\n';
    return 1;
  }
}
