// For typedoc, which calls a document by its file, and puts the project's name above the README: the heading is the name, and stands once.
import { Converter, ReflectionKind } from 'typedoc';

/** @param {import('typedoc').Application} app */
export function load(app) {
  app.converter.on(Converter.EVENT_RESOLVE_BEGIN, ({ project }) => {
    for (const document of project.getReflectionsByKind(ReflectionKind.Document))
      document.name = /^# (.*)$/m.exec(document.content[0].text)[1];
    const [first] = project.readme;
    first.text = first.text.replace(/^# .*\n/, '');
  });
}
